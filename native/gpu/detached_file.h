// The addresses of the GPUs that are to be left alone, one a line, so that a restart of skos-gpu does not take them back. Lives as long
// as the run directory, so to the next boot. Main thread of the supervisor.
#ifndef SKOS_GPU_DETACHED_FILE_H_
#define SKOS_GPU_DETACHED_FILE_H_

#include <set>
#include <string>

namespace skos::gpu {

class DetachedFile {
 public:
  explicit DetachedFile(std::string path) : path_(std::move(path)) {}

  // A file that is not there or not ours to read is an empty one.
  void Read();
  bool Has(const std::string& address) const { return addresses_.count(address) != 0; }
  // False and *why when there are too many. What cannot be written is said on standard error and holds all the same.
  bool Add(const std::string& address, std::string* why);
  void Remove(const std::string& address);

 private:
  void Write() const;

  const std::string path_;
  std::set<std::string> addresses_;
};

}  // namespace skos::gpu

#endif  // SKOS_GPU_DETACHED_FILE_H_
