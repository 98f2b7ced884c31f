/**
 * One MESSAGE_ID per kind of event, and what `journalctl -x` says about it. systemd/skos.catalog is generated from this
 * table (node scripts/catalog.mjs); a test asserts that they agree.
 *
 * An id is never changed and never reused: people filter by it for years (`journalctl MESSAGE_ID=…`). @FIELD@ is replaced
 * by journalctl with the field of the entry that it explains.
 */
export const JOURNAL_EVENTS = {
  'agent.start': {
    id: '30382ccf07d8d80e19e3b723ee642c29',
    subject: 'Agent of @SKOS_NODE@ starts',
    meaning: 'The agent has read its configuration and starts its parts: store, audit check, actuator, sampler, tick.',
    next: 'Nothing. An agent that starts over and over has its reason in the lines before: journalctl -u skos-agent.',
  },
  'agent.ready': {
    id: 'd7713ff625d343d15f6d9e0a94b482c1',
    subject: 'Agent of @SKOS_NODE@ protects',
    meaning:
      'The first protection tick is finished. From now on readings are judged and, where the node is armed, acted upon.',
    next: 'Nothing. `skos status` shows what is watched and what was not found.',
  },
  'agent.stop': {
    id: 'fe2e7b2578c2624029e3286041f606bf',
    subject: 'Agent of @SKOS_NODE@ stops',
    meaning:
      'The agent was told to stop. Effects that stand are left to the actuator, which ends each when it is safe.',
    next: 'Nothing. To end effects at once: skos release.',
  },
  'sensors.not_found': {
    id: '4d8f6ee27b592bb1ef53e3f325108c85',
    subject: 'Sensors that were looked for are not there',
    meaning:
      'Discovery found none of a kind of sensor on this machine, or passed over one; the message says which and why. What is there is watched.',
    next: 'Load the driver (sensors-detect of lm-sensors names it) if the machine should have it; a virtual machine usually has none.',
  },
  'sensor.hung': {
    id: 'bfbb7d706c9ef6f9c5713ad9285b21fd',
    subject: 'A driver does not answer: @SKOS_CHANNEL@',
    meaning:
      'A read did not return within its deadline. The channels of this driver say `hung` and carry no value; all others go on at their rate.',
    next: 'Look for messages of the driver with journalctl -k. It rejoins by itself when it answers.',
  },
  'sensor.gone': {
    id: '5a17e1662de0e1253c13b4472f2fd7b1',
    subject: 'A sensor is gone: @SKOS_CHANNEL@',
    meaning:
      'It was there and cannot be read any more: unplugged, driver unloaded, or switched off. An alert that stands on it keeps standing; a missing reading is not a recovery.',
    next: 'Bring the sensor back, or end the effects by hand with skos release if you know that the danger is past.',
  },
  'sensor.back': {
    id: '4be59dbd76c94ded7a6ebad84845c247',
    subject: 'A sensor is back: @SKOS_CHANNEL@',
    meaning: 'A channel that was gone, faulty or hung is read again.',
    next: 'Nothing.',
  },
  'token.added': {
    id: '9b0530c0919a44ab8339217a9e2a1e7b',
    subject: 'A token was made',
    meaning: 'An operator made a token with which a program may publish over MQTT; the message says its name and role.',
    next: 'Nothing, if it was you. Otherwise revoke it: skos token revoke NAME.',
  },
  'token.revoked': {
    id: '3c5c9ca4430843c28ddf5b4932d2f5c7',
    subject: 'A token was revoked',
    meaning: 'A program may publish over MQTT no longer, and was disconnected.',
    next: 'Nothing.',
  },
  'command.operator': {
    id: 'bf59439ee9e14f5a821e4c8a699567cf',
    subject: 'A command came over MQTT',
    meaning:
      'A program with a token of the role operator asked for what an operator may ask for; the message says what, and what came of it.',
    next: 'Nothing, if it was meant. Otherwise revoke its token.',
  },
  'chain.held': {
    id: '37e1d78a212e45f59f4e140d0aa6f7d5',
    subject: 'A chain is held',
    meaning:
      'A chain of a workload went beyond a limit, or an operator asked for it: each of its steps is told circuit_break until it is reset.',
    next: 'Look at the workload, then skos chain reset ID. The limits are in the section loop of the configuration.',
  },
  'chain.excess': {
    id: 'd6f8f6afc58848d4b1b04aa54a0c60a8',
    subject: 'A chain is beyond a limit',
    meaning:
      'A chain of a workload was told to begin anew, or would have been told something that the mode does not allow; the message says which limit.',
    next: 'Look at the workload. skos chain break ID holds the chain.',
  },
  'chain.reset': {
    id: '55e58e0301904ea7b45130ce2e72aaad',
    subject: 'A chain was reset',
    meaning: 'An operator ended the hold of a chain, or lets a repair that ran in a loop be tried again.',
    next: 'Nothing.',
  },
  'repair.loop': {
    id: 'aa369db4ef2b45c99f8ae63a9a8d4b8d',
    subject: 'A repair runs in a loop',
    meaning:
      'The same repair of the same trouble had the same result again and again. It is not tried again; caps are not touched by this.',
    next: 'Find out why the trouble comes back, then skos chain reset ID, as the message says.',
  },
  'antibody.registered': {
    id: 'f59c1c526e7340468fcb9db3d72aa99d',
    subject: 'An external antibody has registered',
    meaning:
      'A program with a token of the role antibody sent its first heartbeat. From now on its silence is an alert.',
    next: 'Nothing. `skos antibody list` shows it.',
  },
  'antibody.told': {
    id: '14bc9fd95e814c218c6d4d9b5e9fc336',
    subject: 'An external antibody was told something',
    meaning: 'An operator sent a command to an external antibody, which answers with its next heartbeat.',
    next: 'Nothing.',
  },
  'hardware.event': {
    id: '0648038fb78778e6e594a2d55e9c1420',
    subject: 'Hardware event: @SKOS_CHANNEL@',
    meaning:
      'The kernel or a GPU library announced an event of the hardware or its driver: an XID, a machine check, a PCIe, disk or file-system error, an OOM kill. The message says what it means; a burst is one entry with a count.',
    next: 'Do what the message says. `skos alerts` shows what stands; an own word on an XID goes into the section xid of the configuration.',
  },
  'hardware.missed': {
    id: '91495b289a6f0af3046519662cb75fe8',
    subject: 'Messages of the kernel were missed',
    meaning:
      'The kernel overwrote messages before they were read, or more different events came at once than are kept or told. The message says how many.',
    next: 'See journalctl -k for that time. A larger buffer (boot option log_buf_len) holds more.',
  },
  'alert.fire': {
    id: '06369c4a61c2ec914a2fe32020005095',
    subject: 'Alert: rule @SKOS_RULE@ on @SKOS_CHANNEL@',
    meaning: 'The channel stayed beyond the bound of the rule for as long as the rule asks.',
    next: 'See `skos alerts` for the values and `skos actions` for what is done about it.',
  },
  'alert.escalate': {
    id: '2171d11cae5e1566de7e12ecebc291ab',
    subject: 'Alert rises to a higher severity: rule @SKOS_RULE@ on @SKOS_CHANNEL@',
    meaning:
      'What was done so far does not suffice, or the danger grows faster. The actions of the higher severity join those that stand.',
    next: 'See `skos actions`. Look for the cause: fans, dust, room temperature, a runaway job.',
  },
  'alert.recover': {
    id: 'b502b994c508541b0002706b2819df2f',
    subject: 'Alert steps down or back: rule @SKOS_RULE@ on @SKOS_CHANNEL@',
    meaning:
      'The channel is inside the clear bound and the effects step down one severity at a time, each after the time that the rule keeps; or it rose again before that time was over. The message says which.',
    next: 'Nothing.',
  },
  'alert.clear': {
    id: '59cd47b31e21915c6d57e49c6d401770',
    subject: 'Alert is over: rule @SKOS_RULE@ on @SKOS_CHANNEL@',
    meaning: 'The danger is past and every reversible effect of this alert was asked to end.',
    next: 'Nothing. `skos actions` shows what was done and read back.',
  },
  'alert.no_data': {
    id: '9e9ac916b44679d4e3892b04d798dc1d',
    subject: 'The reading behind an alert changed: rule @SKOS_RULE@ on @SKOS_CHANNEL@',
    meaning:
      'The sensor of a standing alert cannot be read any more, or can be read again; the message says which. While it cannot be read the effects stay, because nobody knows that the danger is past.',
    next: 'If it is gone: bring the sensor back; or check by other means, then skos release.',
  },
  'alert.unsilenced': {
    id: 'cf75462ce20772a1cb8fe9b48ec2003e',
    subject: 'Alert is silenced no longer: rule @SKOS_RULE@ on @SKOS_CHANNEL@',
    meaning: 'A silence was over or was ended while the alert stood, and nobody had been notified of it as it is now.',
    next: 'See `skos alerts` for the values and `skos actions` for what is done about it.',
  },
  'silence.add': {
    id: '4ab2244a25bc42d1f627d4ccb04cf624',
    subject: 'Alerts are silenced',
    meaning:
      'An operator asked that nobody be notified of alerts that match, for a while. They are recorded and shown as ever, and what is done about them is not touched.',
    next: 'Nothing. `skos silence list` shows what is silenced, `skos silence end ID` ends it.',
  },
  'silence.end': {
    id: '6d8d6de8b765efa118073d373f2692eb',
    subject: 'A silence is over',
    meaning: 'It ended by itself or by an operator. Alerts that match and still stand are told now.',
    next: 'Nothing.',
  },
  'breaker.reset': {
    id: '8abbef2ac2050704b60d9559cc8292da',
    subject: 'Circuit breakers were reset',
    meaning:
      'An operator closed breakers of repairs and ended their back-off; the message says which. Attempts that were made stay counted.',
    next: 'See `skos actions` for whether the repair helps now; if it fails again, the breaker opens again.',
  },
  'memory.forget': {
    id: '11383edab777f1d2e4afa36af4ac56bd',
    subject: 'The node forgot what it had learnt',
    meaning:
      'An operator had what was remembered of some actions forgotten; their ladders begin where the readings put them until the node has learnt anew.',
    next: 'Nothing. `skos memory` shows what is left.',
  },
  'action.active': {
    id: '14591a48df8d970491f70f0efb4988ed',
    subject: 'Effect stands: @SKOS_ACTION@ by rule @SKOS_RULE@',
    meaning:
      'The actuator wrote the limit and read it back at least as strict as asked. It holds it as a lease with the former value.',
    next: 'Nothing. To take it back now: skos release.',
  },
  'action.intent': {
    id: '6018b97ca7686d9489916292a3487465',
    subject: 'About to run: @SKOS_ACTION@ by rule @SKOS_RULE@',
    meaning:
      'What cannot be taken back is on record before it begins: the jobs, and what their listing says they would touch. An intent that is not followed by a run was not run.',
    next: 'Nothing. See skos actions for what came of it.',
  },
  'action.running': {
    id: 'c361a5d8a883cc53a8f87fcf8f08e372',
    subject: 'Runs: @SKOS_ACTION@ by rule @SKOS_RULE@',
    meaning: 'A unit was started that does what the rule asks for. It is started once for each attempt.',
    next: 'Nothing. See skos actions, and the journal of the unit.',
  },
  'action.verifying': {
    id: 'ade16dee9bb7212d175787217adc83d9',
    subject: 'Ran: @SKOS_ACTION@ by rule @SKOS_RULE@',
    meaning: 'The unit has ended well. Whether the condition ends as well is watched for `repairs.verify` seconds.',
    next: 'Nothing.',
  },
  'action.helped': {
    id: '680c78bf181338b1f072576acf3646dd',
    subject: 'Helped: @SKOS_ACTION@ by rule @SKOS_RULE@',
    meaning: 'The condition was over, by readings, within the time that the repair has to help.',
    next: 'Nothing.',
  },
  'action.unhelpful': {
    id: '1e19b53243f5e42107d75bb6294f3350',
    subject: 'Did not help: @SKOS_ACTION@ by rule @SKOS_RULE@',
    meaning:
      'The unit ended well and the condition stands. It counts as a failure of the breaker; it is tried again when the gates let it.',
    next: 'Look for another cause. skos breaker list shows when it is tried again.',
  },
  'action.done': {
    id: '3c78cffe84aad526568a7ccc3b3e7266',
    subject: 'Done: @SKOS_ACTION@ by rule @SKOS_RULE@',
    meaning: 'It ran to its end. There is nothing to verify: it only tells or asks, or nothing asks for it any more.',
    next: 'Nothing.',
  },
  'workload.operator': {
    id: '72152de689cd4a22a6356fa141a31ecd',
    subject: 'An operator started, stopped or restarted a workload',
    meaning: '`skos workload` asked for it. It passes no breaker and no budget.',
    next: 'Nothing. skos workload list shows what came of it.',
  },
  'action.pending': {
    id: 'ddcac031befd2508835c66e60327fef4',
    subject: 'Effect not taken yet: @SKOS_ACTION@ by rule @SKOS_RULE@',
    meaning:
      'The target cannot be written at the moment (an offline CPU, a device that is suspended). It is tried again each second.',
    next: 'Nothing, unless it stays so: then see skos actions.',
  },
  'action.released': {
    id: 'f37a4a551bbcb5fe3bd12e71b9705cf0',
    subject: 'Effect taken back: @SKOS_ACTION@ by rule @SKOS_RULE@',
    meaning: 'The former value stands again.',
    next: 'Nothing.',
  },
  'action.undo_pending': {
    id: 'f2ba25f83bacbd86b27442270b8c110b',
    subject: 'Effect not taken back yet: @SKOS_ACTION@ by rule @SKOS_RULE@',
    meaning:
      'The release was asked for, but the target cannot be written at the moment. It is tried again each second, and when the device comes back.',
    next: 'Nothing, unless it stays so: then see skos actions.',
  },
  'action.abandoned': {
    id: '93a319d10cbb1cc5f3860ffd2d895a9e',
    subject: 'Effect of an earlier boot closed: @SKOS_ACTION@',
    meaning:
      'The record held an effect of a boot that is over. Caps do not survive a boot, so nothing is to be taken back.',
    next: 'Nothing.',
  },
  'action.unavailable': {
    id: '3632a23e6a72b2bccd3950ebbcaa9fc2',
    subject: 'No target for @SKOS_ACTION@',
    meaning:
      'The rule asks for an action that has nothing to act upon on this node: no device, no configured target, or no actuator.',
    next: 'Configure a target for it, or take it out of the actions of the rule: skos config explain.',
  },
  'action.proposed': {
    id: '6c971358d263589e1dc3197292b8ff71',
    subject: 'Proposed: @SKOS_ACTION@ by rule @SKOS_RULE@',
    meaning:
      'The rule may not do this by itself: its mode is propose, or the action is restartable or irreversible and not listed in auto_allow.',
    next: 'Do it by hand if you agree; or list it in auto_allow.',
  },
  'action.observed': {
    id: '362235fd7889b021451e6bda93b51d26',
    subject: 'Would have acted: @SKOS_ACTION@ by rule @SKOS_RULE@',
    meaning: 'The node only observes. In mode auto this action would have run.',
    next: 'When the observed actions look right, arm the node: skos arm.',
  },
  'action.barred': {
    id: '7d4f7c3abe3620807c01230a7ecb845a',
    subject: 'Not done: @SKOS_ACTION@ by rule @SKOS_RULE@',
    meaning:
      'The operator released its rule or holds the node; or, of what cannot be taken back, a breaker, a budget or a maintenance window stands before it. The reason says which. Caps are barred by the operator alone; standing orders stay in force.',
    next: 'Nothing. It ends by itself; `skos status` and `skos breaker list` say when.',
  },
  'action.failed': {
    id: '94269581985be26344a904108a81b48b',
    subject: 'Effect failed: @SKOS_ACTION@ by rule @SKOS_RULE@',
    meaning: 'The kernel did not take the value, or it reads back weaker than asked. It is tried again.',
    next: 'See `skos actions`. Another controller (thermald, tuned, a vendor daemon) may own the target.',
  },
  'action.foreign_change': {
    id: '18b315e30e459547a569d77e06939cf7',
    subject: 'Somebody else wrote the target of @SKOS_ACTION@',
    meaning:
      'The value is no longer the one that the actuator wrote. It is recorded and left alone; nothing is restored over it.',
    next: 'Find out who writes it (thermald, tuned, an operator) and let one of the two own the target.',
  },
  'release.operator': {
    id: 'db31ef6a423d050d1a9d64fb7b39a8e1',
    subject: 'Operator took effects back',
    meaning:
      'An operator ended effects with skos release. Their rules are barred for the time that was given; standing orders stay.',
    next: 'Nothing.',
  },
  'hold.operator': {
    id: '3a91a47b659f41b18f8d7308cd257532',
    subject: 'Node @SKOS_NODE@ was put on hold, or off it',
    meaning:
      'With skos hold an operator lets nothing new begin by itself for a while. Effects that stand go on unless the caps were included; standing orders stay.',
    next: 'Nothing: a hold ends by itself. To end it now: skos hold --end.',
  },
  'approve.operator': {
    id: 'd89d9fd15ef04e4d8af8ff28a0718775',
    subject: 'Operator approved @SKOS_ACTION@',
    meaning: 'A proposed action was approved with skos approve. It is done, and taken back when its danger is past.',
    next: 'Nothing. To take it back: skos release @SKOS_RULE@.',
  },
  'arm.armed': {
    id: '3d922ed383979b62bc9375577262e984',
    subject: 'Node @SKOS_NODE@ is armed',
    meaning: 'Mode auto: reversible effects run by themselves, and the standing orders of the actuator are in force.',
    next: 'Nothing. To go back to observing: skos disarm.',
  },
  'arm.disarmed': {
    id: 'dff4116f9835b2bfb01c60103018d40a',
    subject: 'Node @SKOS_NODE@ is disarmed',
    meaning: 'The node observes and alerts; it moves nothing and has no standing orders.',
    next: 'Arm it again when ready: skos arm.',
  },
  'actuator.connected': {
    id: 'd8caf6a5eee66b9d6ec7deb30f0306d7',
    subject: 'Actuator connected',
    meaning: 'The agent controls the actuator. Standing effects of this boot were adopted.',
    next: 'Nothing.',
  },
  'actuator.lost': {
    id: '614c97ef9401e41e27be69ada59b7d65',
    subject: 'Actuator lost',
    meaning:
      'The connection ended or was never there: nothing can be throttled by policy. Where the actuator still runs, its standing orders hold.',
    next: 'systemctl status skos-actuator; journalctl -u skos-actuator.',
  },
  'actuator.event': {
    id: 'c8d27929c4ed65afd5bf0896dba36d42',
    subject: 'The actuator acted by itself',
    meaning:
      'It did this without the agent: a standing order, the end of an orphaned lease, or a change by somebody else.',
    next: 'See `skos status` (orders) and `skos actions`.',
  },
  'units.lost': {
    id: '374bc81da5804fb8bf7d32d196c74627',
    subject: 'No unit can be moved',
    meaning:
      'skos-units ended or cannot be started: no systemd unit is frozen, limited, started or stopped, and what was asked is asked again.',
    next: 'Nothing, if it is started again within a minute. Else look at what it said before it ended.',
  },
  'gpu.unread': {
    id: 'ab2851fff5fd4a1d80fbc4dca9c9aaeb',
    subject: 'No GPU is read',
    meaning: 'skos-gpu does not answer, so that no GPU temperature is known. All other sensors are watched as before.',
    next: 'On a node with GPUs: start skos-gpu.service, then run skos doctor. Without GPUs: nothing, or gpu.mode: off.',
  },
  'gpu.silent': {
    id: 'e45d0af838244f438af53727a6f58fd4',
    subject: 'skos-gpu does not answer',
    meaning:
      'It is stopped or stuck in the kernel. GPUs whose readers are well are read on; nothing can be detached or attached. ' +
      'Under skos run it is replaced at once, installed by the watchdog of its unit.',
    next: 'See journalctl -u skos-gpu; if it stays so, journalctl -k shows where it hangs.',
  },
  'gpu.serving': {
    id: '3d51c47141d5496a860b4e38c386f1d5',
    subject: 'A GPU is read',
    meaning: 'Its driver answers and its channels have values.',
    next: 'Nothing.',
  },
  'gpu.failed': {
    id: '53f410c311064ab784cc2c2ce4533ae7',
    subject: 'A GPU cannot be read',
    meaning: 'Its driver or library refused; the message says what it said. It is tried again by itself.',
    next: 'Run skos doctor; check the driver (nvidia-smi, dmesg).',
  },
  'gpu.lost': {
    id: 'ec4ad2bd949142f19eef5f40e48c81cd',
    subject: 'A GPU has fallen off the bus',
    meaning: 'The driver says that the device is lost: only some values can be read, and jobs on it fail.',
    next: 'Drain the node; reset the GPU or restart the node; see skos gpu and the kernel log.',
  },
  'gpu.reset_required': {
    id: '3b2f192a5a9b48d4b5e0e27a6c5857eb',
    subject: 'A GPU asks for a reset',
    meaning: 'Its driver wants every user of the device gone. skos-gpu has let go of it and tries again each 30 s.',
    next: 'Drain it, reset it (nvidia-smi --gpu-reset -i …); it is taken again by itself.',
  },
  'gpu.hung': {
    id: 'd388b5fde3634622b9081ebce6640bfd',
    subject: 'A GPU driver does not answer',
    meaning: 'A call into the driver has not returned; its channels say hung. Other GPUs are read as before.',
    next: 'Look into the kernel log; a driver that hangs for good needs a reset of the GPU or of the node.',
  },
  'gpu.detached': {
    id: 'fb8a537ca7044a74978075348002ca3f',
    subject: 'A GPU was let go of',
    meaning:
      'skos-gpu has closed the device, so that it can be reset, re-partitioned or its driver changed. Nobody watches it.',
    next: 'When done: skos gpu attach ID.',
  },
  'gpu.gone': {
    id: '7a6169616d174c17b1a0155bcc451b1f',
    subject: 'A GPU is no longer there',
    meaning: 'The device has left the bus or its driver was unloaded.',
    next: 'Nothing, if you took it out; else see the kernel log.',
  },
  'gpu.detach': {
    id: '8844aca91942420f8ee22933ea0e303c',
    subject: 'An operator let go of a GPU',
    meaning: 'Asked for with skos gpu detach; the message says who.',
    next: 'When done: skos gpu attach ID.',
  },
  'gpu.attach': {
    id: 'a68c99fa231646c6a4a97e05f3af4f4c',
    subject: 'An operator took a GPU again',
    meaning: 'Asked for with skos gpu attach; the message says who.',
    next: 'Nothing.',
  },
  'store.failed': {
    id: '5452d22ca247abc73af11fea3447684b',
    subject: 'The record cannot be written',
    meaning: 'The database or its disk fails. Protection goes on; recent records are kept in memory and tried again.',
    next: 'Check space and health of the disk under data_dir.',
  },
  'store.recovered': {
    id: '0014fbf32b5f6082cbbc7c1e009d9b98',
    subject: 'The record is written again',
    meaning: 'The database takes writes again; what was kept in memory is on disk now.',
    next: 'Nothing.',
  },
  'store.damaged': {
    id: '6ab6d973b2aa8910be5007e3e2e40426',
    subject: 'A stored record is damaged',
    meaning: 'One record or chunk of samples cannot be decoded and is passed over; the rest is used.',
    next: 'Check the health of the disk under data_dir.',
  },
  'store.raw_log': {
    id: '085e974c99b046fe96c6d4c78b228781',
    subject: 'Raw samples are in memory only',
    meaning:
      'The raw log cannot be written or read: a power cut now loses the samples that are not in the database, some minutes of them.',
    next: 'Check space and health of the disk under data_dir.',
  },
  'store.raw_log_recovered': {
    id: '5b84268da5d8474e90705e1aadcf72b0',
    subject: 'Raw samples are on disk again',
    meaning: 'The raw log, or the database after memory for raw samples was full, takes writes again.',
    next: 'Nothing.',
  },
  'store.raw_log_skipped': {
    id: '535a5f43653849e7b05295de3372b23a',
    subject: 'A file in the raw log is left alone',
    meaning:
      'It is no segment of the raw log, is damaged at its beginning, or was written by a newer version. Nothing of it is used.',
    next: 'See what it is; below data_dir/raw-log only the agent should write. A newer version reads its own.',
  },
  'store.roll_up': {
    id: 'b1e33abe2cbf42cec2c1b85964821740',
    subject: 'Minutes were not made of seconds',
    meaning: 'The database could not be read. Seconds are kept, and minutes are made of them later.',
    next: 'Check the health of the disk under data_dir.',
  },
  'store.over_bound': {
    id: 'ec7b12a08f8a069da95e4802b12430c5',
    subject: 'The store is larger than its bound',
    meaning:
      'No samples are left to delete: audit entries, alerts, actions and recordings take more than store.max_mib. They have bounds of their own.',
    next: 'Raise store.max_mib.',
  },
  'store.set_aside': {
    id: '6c9dd6fea24547ad5f21d5ee483b14af',
    subject: 'The database was damaged and set aside',
    meaning: 'It could not be opened. A new one was begun, the old one kept under the name in the message.',
    next: 'Keep it as evidence; check the disk under data_dir, then skos audit verify.',
  },
  'store.migrating': {
    id: 'c3217c82d5ddf05039d7e68a10cdba5a',
    subject: 'The database is brought to a newer format',
    meaning: 'It was written by an earlier version. A backup is made first; the line says where, and how far it is.',
    next: 'Nothing. To go back to the earlier version: stop the agent, `skos restore` that backup, install it.',
  },
  'store.migrated': {
    id: '3de80c6d1c79e376277bdcd1107c8be2',
    subject: 'The database has the newer format',
    meaning: 'Everything in it was taken over. Earlier versions refuse it from now on.',
    next: 'Nothing. Where the agent went on in memory meanwhile, restart it, so that it keeps its record on disk again.',
  },
  'outbox.dropped': {
    id: 'e29c15b442fd6188128b8430bb9f22d9',
    subject: 'Messages for somebody who is away were dropped',
    meaning: 'More waits in the outbox than it keeps, or the disk has failed. The oldest were dropped and are counted.',
    next: 'See skos outbox, and why the receiver does not take them: for mqtt, the broker of mqtt.url.',
  },
  'outbox.removed': {
    id: '86b0c7babc3ada9e41285ae27d9113c5',
    subject: 'A queue of the outbox was removed',
    meaning:
      'The configuration names its receiver no more. What waited for him was let go; alerts and audit stay here.',
    next: 'Nothing, if that was meant. Otherwise set mqtt.url again; what was let go is in skos alerts and skos audit.',
  },
  'store.restored': {
    id: '52de321f6c694ef88ecbdb7e88c320b0',
    subject: 'The database was restored from a backup',
    meaning:
      'Somebody ran skos restore while the agent was stopped. Entry audit.restore of the audit chain says who, when and from which file; where the chain went back by it, a restart note stands before that.',
    next: 'Nothing, if it was meant. The database that was replaced lies beside it, under the name in the message; remove it when you are sure.',
  },
  'backup.taken': {
    id: '9e83006692674252a331ac2437e1de1a',
    subject: 'A backup of the record was taken',
    meaning:
      'Somebody read all that the node remembers into a file; the message says who, and the SHA-256 of the file.',
    next: 'Nothing, if it was meant. `skos backup --verify FILE` checks the file.',
  },
  'backup.ended': {
    id: 'c44607a27bce4a73bc407e8c9bbf463b',
    subject: 'A backup was begun and not finished',
    meaning: 'Somebody read a part of the record; the message says who, how much, and why it ended.',
    next: 'Take the backup again, if one is wanted.',
  },
  'store.salvaged': {
    id: '9fe682235c3765bf2b3e7bc800eb4749',
    subject: 'A damaged database was read',
    meaning:
      'The files of a database that was set aside were read beside the running agent, and what the new one lacked was put into it. The message says what came back and what is missing.',
    next: 'Nothing when all could be read. Else keep the set-aside directory for as long as its records may matter: it is never deleted by the agent. Check the health of the disk under data_dir.',
  },
  'store.trim': {
    id: 'f9295f85062e6ed608c5b2cdb6cd5f33',
    subject: 'Old records were not removed',
    meaning: 'The database could not be looked through for records beyond their age. It is tried again later.',
    next: 'Check space and health of the disk under data_dir.',
  },
  'store.mark': {
    id: '2eea10d380408beea05171b5e88b653c',
    subject: 'The mark of the audit head was not written',
    meaning:
      'The file beside the database that says how far the audit chain reached could not be written. It is tried again.',
    next: 'Check space and health of the disk under data_dir.',
  },
  'audit.head': {
    id: 'a053371c3411050297f0312a9750b176',
    subject: 'Head of the audit chain: @SKOS_AUDIT_SEQ@',
    meaning: 'The hash of the newest audit entry, kept here so that a later change of the chain shows.',
    next: 'Nothing. Compare with `skos audit verify` when in doubt.',
  },
  'audit.broken': {
    id: 'c3656a59e6f0b61428934c5f0a52a35c',
    subject: 'The audit chain does not verify',
    meaning: 'An entry was changed, removed, inserted or reordered, or the disk lost it.',
    next: 'Keep a copy of data_dir as evidence; compare the SKOS_AUDIT_HEAD fields of this journal and the heads that the peers hold.',
  },
  'net.agent': {
    id: '74beb1ee2431dcb3124986cde00f59f0',
    subject: 'skos-net is connected to the agent',
    meaning: 'The program that serves MQTT has the state of the agent and publishes it.',
    next: 'Nothing.',
  },
  'net.no_agent': {
    id: 'f4376e488465b3467a85114af16a7c0f',
    subject: 'skos-net finds no agent',
    meaning: 'No agent answers on its socket; it is tried again. What was retained is marked as old.',
    next: 'systemctl status skos-agent; journalctl -u skos-agent.',
  },
  'net.restarted': {
    id: '3a2eff96113b124315c72d37f2a4b0e9',
    subject: 'skos-net is restarted',
    meaning:
      'It ended, or exceeded its memory limit. Protection does not depend on it; subscribers find the retained truth again.',
    next: 'Nothing, unless it repeats: then see who floods the broker.',
  },
  'net.listen': {
    id: '0c0ff6fd366dc19b78c744bf63a4ed6e',
    subject: 'MQTT is listening',
    meaning: 'The broker takes connections on the address in the message.',
    next: 'Nothing.',
  },
  'net.listen_failed': {
    id: '3c1a2ecb69a33ca0f5124646e738ac96',
    subject: 'The MQTT port cannot be opened',
    meaning: 'The port is taken or may not be opened. It is tried again; protection goes on.',
    next: 'Free the port (ss -ltnp), or choose another with mqtt.listen.',
  },
  'net.joined': {
    id: 'ea21d9a0eee5387cdc57648370d3a772',
    subject: 'Joined the broker of the site',
    meaning: 'The connection to the broker that mqtt.url names stands.',
    next: 'Nothing.',
  },
  'net.broker_lost': {
    id: 'fa59959d71129b9a98d92189bbbdd204',
    subject: 'The broker of the site is lost',
    meaning:
      'The connection to the broker that mqtt.url names ended or cannot be made. It is tried again; protection goes on.',
    next: 'Check the broker and the network between.',
  },
  'net.client': {
    id: '99b37c6cb836b25d5f6545f51253f7ac',
    subject: 'An MQTT client was refused or dropped',
    meaning: 'It sent something that MQTT or its rights do not allow, or too much of it. The message says which.',
    next: 'Mend the client, or give it a token for what it wants to do.',
  },
  'net.payload': {
    id: '910e64937064266e9fea6b2fead7784e',
    subject: 'A message was not published',
    meaning: 'It does not fit the contract of the MQTT topics or their size.',
    next: 'Report it with the message.',
  },
  'net.publish': {
    id: '84517f8e09f1dcbbb5d8fec16465ac41',
    subject: 'A message could not be published',
    meaning: 'The broker refused it.',
    next: 'Report it with the message.',
  },
  'net.config': {
    id: 'e49bca7250737cf5e4b54e3b28bfe0a4',
    subject: 'skos-net takes a new configuration',
    meaning: 'The agent has reloaded its configuration.',
    next: 'Nothing.',
  },
  'net.stop': {
    id: 'd1a033de7c5fce820fd52b0b70f7cd3f',
    subject: 'skos-net did not stop in time',
    meaning: 'A connection did not close; it was left to the kernel.',
    next: 'Nothing.',
  },
  'net.failed': {
    id: 'e80076da7e78f6f1f799120f2084f74e',
    subject: 'skos-net failed',
    meaning: 'An error that nobody expected ended it. It is started again; protection goes on.',
    next: 'Report it with the lines before it.',
  },
  'mesh.peer_online': {
    id: 'c787d20b8996e3decbbf178edaf3f800',
    subject: 'Peer @SKOS_PEER@ is online',
    meaning: 'The agent of the peer is heard.',
    next: 'Nothing.',
  },
  'mesh.peer_offline': {
    id: '46c5ca97838e4b1d82ee5285f435aef9',
    subject: 'Peer @SKOS_PEER@ is offline',
    meaning: 'Its last will arrived, or no heartbeat came for HEARTBEAT_TIMEOUT seconds.',
    next: 'Check the peer and the network between; this node protects itself alone meanwhile.',
  },
  'mesh.peer_unknown': {
    id: '7d6dc2280398fb580020083245420abb',
    subject: 'Peer @SKOS_PEER@ is not known yet',
    meaning: 'It is configured, but was neither heard nor missed for long enough to say anything.',
    next: 'Nothing.',
  },
  'mesh.linked': {
    id: '5536a4c9fdba1be264d47dfb48d977dc',
    subject: 'Linked to @SKOS_PEER@',
    meaning: 'The connection to the broker of the peer stands; its topics are mirrored here.',
    next: 'Nothing.',
  },
  'mesh.link_lost': {
    id: 'a0a17805b7475a9e74e71c9a500f6996',
    subject: 'Link to @SKOS_PEER@ is lost',
    meaning: 'The connection to the broker of the peer ended or cannot be made. It is tried again.',
    next: 'Check the peer, its port, the certificates and the network between.',
  },
  'mesh.payload': {
    id: 'caf6a833c1de8ae2bd23bfee084320e5',
    subject: 'A message of @SKOS_PEER@ was dropped',
    meaning: 'It does not fit the contract of the MQTT topics, or there were too many.',
    next: 'Install the same version on both nodes; if it goes on, see what publishes in its name.',
  },
  'mesh.tls': {
    id: 'c275401372c89b5505af4d78cf2f5d35',
    subject: 'Certificates of the mesh do not fit',
    meaning: 'A certificate or key cannot be read, is missing, or a client was refused for its own.',
    next: 'Check the files that mesh.tls and mesh.peers name.',
  },
  'config.reloaded': {
    id: 'c5912a3678b000d665d265908672023f',
    subject: 'Configuration reloaded',
    meaning: 'The new configuration is valid and in force.',
    next: 'Nothing.',
  },
  'config.refused': {
    id: 'e887094adfe5679f15ed3c1462f2772e',
    subject: 'Configuration refused',
    meaning: 'The new configuration is not valid. Nothing was changed: the old one stays in force.',
    next: 'Mend what the message names, check with skos config check, then reload again.',
  },
  'audit.key': {
    id: '63437717e84105e695278f839dcd2e24',
    subject: 'The key of the audit chain of @SKOS_NODE@',
    meaning:
      'A key was made, exchanged, or found damaged or open to others; the message says which. Without a key the chain goes on unsigned.',
    next: 'Note the key id of a new key, for skos audit verify --key. A key that was open to others: skos audit rotate-key.',
  },
  'log.level': {
    id: '9a266facd51d1517d17792eb9e9ca2e4',
    subject: 'Log level changed',
    meaning: 'The level was changed at run time; it goes back by itself if a time was given.',
    next: 'Nothing.',
  },
  'log.suppressed': {
    id: '7a401511dfccc0dac2555161f1b722c6',
    subject: 'Log lines were held back',
    meaning:
      'The same kind of event came more often than the bound allows; SKOS_SUPPRESSED counts those that are not here. Alerts and actions are complete in `skos alerts` and `skos audit`.',
    next: 'Look for what repeats: a flapping sensor or a client in a loop.',
  },
  'socket.client': {
    id: '1198d61920f65c631daa85db822261f4',
    subject: 'A client of the agent socket was disconnected',
    meaning:
      'It sent what the protocol does not allow, did not read what it asked for, or may not use the socket. The message says which.',
    next: 'Use the CLI of the same version; see the process in SKOS_PID.',
  },
  'socket.error': {
    id: 'c0d755bfec70066f768dbb730a5c8e38',
    subject: 'The agent socket failed',
    meaning: 'The operating system reported an error of the listening socket.',
    next: 'Restart the agent if the CLI does not reach it.',
  },
} as const satisfies Record<string, JournalEvent>;

export interface JournalEvent {
  /** 128 random bits, as `systemd-id128 new` makes them. */
  readonly id: string;
  readonly subject: string;
  readonly meaning: string;
  /** What the operator can do about it. */
  readonly next: string;
}

/** MESSAGE_ID of a kind of event; undefined for one that the catalog does not explain. */
export function messageId(event: string): string | undefined {
  const events: Readonly<Record<string, JournalEvent>> = JOURNAL_EVENTS;
  return Object.hasOwn(events, event) ? events[event]?.id : undefined;
}

/** The message catalog, in the format of catalog files (systemd's docs/CATALOG.md). */
export function catalog(): string {
  const entries = Object.values(JOURNAL_EVENTS).map(
    ({ id, subject, meaning, next }) =>
      `-- ${id}\nSubject: ${subject}\nDefined-By: SKOS Edge\n\n${meaning}\n\nWhat to do: ${next}\n`,
  );
  return [CATALOG_HEAD, ...entries].join('\n');
}

const CATALOG_HEAD = `# Message catalog of SKOS Edge: what \`journalctl -x\` says about its entries.
# Generated from src/app/journal-events.ts by scripts/catalog.mjs; change it there.
# Install as /usr/lib/systemd/catalog/skos.catalog, then run journalctl --update-catalog.
`;
