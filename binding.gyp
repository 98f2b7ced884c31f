# A forwarder: native/CMakeLists.txt holds the only list of native sources. Who runs node-gyp gets the same build.
{
  "targets": [
    {
      "target_name": "skos_native",
      "type": "none",
      "actions": [
        {
          "action_name": "native_build",
          "inputs": ["native/CMakeLists.txt"],
          "outputs": ["build/native/skos.node"],
          "action": ["node", "scripts/native-build.mjs"]
        }
      ]
    }
  ]
}
