// A hung read as the kernel makes it: a FUSE file whose server does not answer. Needs fuse3 and /dev/fuse; skipped, and
// said so, where they are absent.
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

#include "sampler/clock.h"
#include "sampler/sampler.h"
#include "test/check.h"
#include "test/temp_dir.h"

namespace skos::test {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kDeadlineNs = 100 * kMs;

bool Within(int64_t patience_ns, const std::function<bool()>& condition) {
  const int64_t end_ns = MonotonicNs() + patience_ns;
  while (!condition()) {
    if (MonotonicNs() > end_ns) return false;
    usleep(1000);
  }
  return true;
}

// The mounted file system; ends with the object.
class HangingFs {
 public:
  HangingFs() {
    mkdir(mountpoint_.c_str(), 0755);
    const std::string server = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "hanging_fs";
    if (access(server.c_str(), X_OK) != 0 || access("/dev/fuse", R_OK | W_OK) != 0) return;
    child_ = fork();
    if (child_ == 0) {
      execl(server.c_str(), server.c_str(), gate_.c_str(), "-f", mountpoint_.c_str(), nullptr);
      _exit(127);
    }
    mounted_ = Within(5 * kNsPerSecond, [this] { return access(file().c_str(), R_OK) == 0; });
  }
  ~HangingFs() {
    Release();
    if (mounted_ && umount2(mountpoint_.c_str(), MNT_DETACH) != 0) {
      const std::string command = "fusermount3 -u -z " + mountpoint_;
      if (system(command.c_str()) != 0) std::fprintf(stderr, "could not unmount %s\n", mountpoint_.c_str());
    }
    if (child_ > 0) {
      kill(child_, SIGTERM);
      waitpid(child_, nullptr, 0);
    }
  }
  HangingFs(const HangingFs&) = delete;
  HangingFs& operator=(const HangingFs&) = delete;

  bool mounted() const { return mounted_; }
  std::string file() const { return mountpoint_ + "/temp1_input"; }
  void Hang() { dir_.Write("gate", ""); }
  void Release() { dir_.Remove("gate"); }
  std::string Write(const char* name, const char* content) { return dir_.Write(name, content); }

 private:
  TempDir dir_;
  const std::string mountpoint_ = dir_.File("mount");
  const std::string gate_ = dir_.File("gate");
  pid_t child_ = -1;
  bool mounted_ = false;
};

Quality QualityOf(const Sampler& sampler, size_t channel) {
  Reading out[2];
  sampler.Latest(out);
  return out[channel].quality;
}

bool Becomes(const Sampler& sampler, size_t channel, Quality quality) {
  return Within(10 * kNsPerSecond, [&] { return QualityOf(sampler, channel) == quality; });
}

void HangsStopsAndRejoins(HangingFs* fs) {
  ChannelSpec stuck;
  stuck.probe.path = fs->file();
  stuck.domain = "fuse";
  stuck.period_ns = 10 * kMs;
  ChannelSpec healthy = stuck;
  healthy.probe.path = fs->Write("healthy", "1\n");
  healthy.domain = "tmp";
  SamplerOptions options;
  options.read_deadline_ns = kDeadlineNs;
  {
    Sampler sampler({stuck, healthy}, {}, options);
    CHECK_EQ(sampler.Start(), 0);
    CHECK(Becomes(sampler, 0, Quality::kOk));
    fs->Hang();
    CHECK(Becomes(sampler, 0, Quality::kHung));
    CHECK(Becomes(sampler, 1, Quality::kOk));
    fs->Release();
    CHECK(Becomes(sampler, 0, Quality::kOk));
    fs->Hang();
    CHECK(Becomes(sampler, 0, Quality::kHung));
    const int64_t begin_ns = MonotonicNs();
    sampler.Stop();
    CHECK(MonotonicNs() - begin_ns < 100 * kMs);
  }
  // The former thread is still stuck; a new sampler runs beside it.
  Sampler sampler({healthy, healthy}, {}, options);
  CHECK_EQ(sampler.Start(), 0);
  CHECK(Becomes(sampler, 1, Quality::kOk));
  fs->Release();
  usleep(50'000);
  CHECK_EQ(QualityOf(sampler, 0), Quality::kOk);
}

}  // namespace
}  // namespace skos::test

int main() {
  skos::test::HangingFs fs;
  if (!fs.mounted()) {
    std::printf("  skipped: no fuse3 or no /dev/fuse here\n");
    return skos::test::kSkipped;
  }
  skos::test::HangsStopsAndRejoins(&fs);
  return 0;
}
