// A directory of a test's own, removed with all that is in it; and files in it, written as the kernel changes them: a
// value is there as a whole or not at all.
#ifndef SKOS_TEST_TEMP_DIR_H_
#define SKOS_TEST_TEMP_DIR_H_

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace skos::test {

class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "skos-test-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TempDir() {
    std::error_code ignored;  // What is left over in /tmp is no failure of the test.
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  std::string File(const std::string& name) const { return path_ + "/" + name; }

  std::string Write(const std::string& name, std::string_view content) const {
    const std::string target = File(name);
    std::ofstream(target + ".new", std::ios::binary) << content;
    std::rename((target + ".new").c_str(), target.c_str());
    return target;
  }

  void Remove(const std::string& name) const { std::filesystem::remove_all(File(name)); }

 private:
  std::string path_;
};

}  // namespace skos::test

#endif  // SKOS_TEST_TEMP_DIR_H_
