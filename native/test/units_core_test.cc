// skos-units without its socket: what it takes for a request, what it executes for it, what it makes of systemctl's words, and a
// systemctl that hangs, floods and looks around.
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "sampler/clock.h"
#include "test/check.h"
#include "units/command.h"
#include "units/protocol.h"
#include "units/show.h"

namespace skos::test {
namespace {

using namespace units;

std::string WordsFor(const std::string& packet) {
  Request request;
  CHECK_EQ(ParseRequest(packet, &request), 0);
  Words words;
  WordsOf(request, &words);
  std::string line;
  for (size_t i = 0; i < words.count; ++i) line += (i == 0 ? "" : " ") + std::string(words.words[i]);
  CHECK(words.count <= Words::kMax);
  return line;
}

void ExecutesFixedWordsOnly() {
  const std::string head = "--no-ask-password --no-pager ";
  CHECK_EQ(WordsFor("set freeze a.service 0"), head + "freeze -- a.service");
  CHECK_EQ(WordsFor("set freeze a.scope 1"), head + "thaw -- a.scope");
  CHECK_EQ(WordsFor("set run a.service 0"), head + "start -- a.service");
  CHECK_EQ(WordsFor("set run a.service 1"), head + "stop -- a.service");
  CHECK_EQ(WordsFor("set quota a.slice 200000"), head + "set-property --runtime -- a.slice CPUQuota=20%");
  CHECK_EQ(WordsFor("set quota a.slice 12500000"), head + "set-property --runtime -- a.slice CPUQuota=1250%");
  CHECK_EQ(WordsFor("set quota a.slice 1000"), head + "set-property --runtime -- a.slice CPUQuota=0.1%");
  CHECK_EQ(WordsFor("set quota a.slice 333300"), head + "set-property --runtime -- a.slice CPUQuota=33.33%");
  CHECK_EQ(WordsFor("set quota a.slice 300500"), head + "set-property --runtime -- a.slice CPUQuota=30.05%");
  CHECK_EQ(WordsFor("set quota a.slice -1"), head + "set-property --runtime -- a.slice CPUQuota=");
  CHECK_EQ(WordsFor("job k/1 restart a@b\\x2dc.service 1000"), head + "restart -- a@b\\x2dc.service");
  CHECK_EQ(WordsFor("get quota a.service"), head + "show -p " + kShownProperties + " -- a.service");
}

void RefusesWhatIsNoRequest() {
  const std::string longest(kMaxStemBytes, 'a');
  const std::string key(kMaxKeyBytes, 'k');
  Request request;
  CHECK_EQ(ParseRequest("set freeze " + longest + ".service 0", &request), 0);
  CHECK_EQ(ParseRequest("await " + key + " restart " + longest + ".service 7200000 4398046511104", &request), 0);
  CHECK(("await " + key + " restart " + longest + ".service 7200000 4398046511104").size() <= kMaxRequestBytes);
  const std::string bad[] = {
      "", " ", "get", "get ", "get quota --now.service", "get freeze -.slice", "get quota", "get quota ", "get quota a", "get quota a.mount", "get quota a.service ",
      "get  quota a.service", "get quota /a.service", "get quota ../a.service", "get quota a;b.service", "get quota a b.service",
      "get quota $(a).service", "get quota a*.service", "get quota .service", "get quota \xc3\xa9.service", "get fan a.service",
      "GET quota a.service", "get quota a.service\n", "get quota " + longest + "a.service", "set quota a.service",
      "set quota a.service 0", "set quota a.service -2", "set quota a.service 1e3", "set quota a.service 150",
      "set quota a.service 9999999999", "set freeze a.service 2", "set freeze a.service -1", "set run a.service +0",
      "job", "job k", "job k start", "job k start a.service", "job k start a.service 999", "job k start a.service 7200001",
      "job k start a.slice 1000", "job k reload a.service 1000", "job - start a.service 1000", "job K start a.service 1000",
      "job k start a.service 1000 1", "await k start a.service 1000", "await k start a.service 1000 -1",
      "job " + key + "k start a.service 1000", std::string("get quota a\0.service", 20)};
  for (const std::string& packet : bad) {
    if (ParseRequest(packet, &request) != EINVAL) Fail(__FILE__, __LINE__, packet);
  }
  for (const char* unit : {"init.scope", "system.slice", "skos.slice", "systemd-journald.service", "skos-agent.service"}) {
    CHECK_EQ(ParseRequest(std::string("set freeze ") + unit + " 0", &request), EPERM);
    CHECK_EQ(ParseRequest(std::string("get freeze ") + unit, &request), 0);
  }
  CHECK_EQ(ParseRequest("job k stop skos-actuator.service 1000", &request), EPERM);
  CHECK_EQ(ParseRequest("job k start skos-act-cleanup-temp.service 1000", &request), 0);
}

int64_t Span(const std::string& text) {
  int64_t us = -2;
  return ParseTimeSpan(text, &us) ? us : -3;
}

void ReadsTimeSpans() {
  CHECK_EQ(Span("infinity"), -1);
  CHECK_EQ(Span("200ms"), 200'000);
  CHECK_EQ(Span("1s"), 1'000'000);
  CHECK_EQ(Span("1.500000s"), 1'500'000);
  CHECK_EQ(Span("1s 500ms"), 1'500'000);
  CHECK_EQ(Span("333.300ms"), 333'300);
  CHECK_EQ(Span("333ms 300us"), 333'300);
  CHECK_EQ(Span("2min 8s"), 128'000'000);
  CHECK_EQ(Span("0"), 0);
  for (const char* bad : {"", " ", "1", "s", "-1s", "1 s", "1s ", "1.s", "1.1234567s", "1..5s", "1e3s", "1sec", "9999999999999999s", "inf"}) {
    if (Span(bad) != -3) Fail(__FILE__, __LINE__, bad);
  }
}

Shown Parsed(const std::string& text) {
  Shown shown;
  CHECK(ParseShow(text, &shown));
  return shown;
}

void JudgesUnitsByTheirOwnWord() {
  int64_t value = -9;
  const Shown frozen = Parsed("LoadState=loaded\nActiveState=active\nFreezerState=frozen\nCPUQuotaPerSecUSec=200ms\n");
  CHECK_EQ(KnobOf(frozen, Knob::kFreeze, &value), 0);
  CHECK_EQ(value, 0);
  CHECK_EQ(KnobOf(frozen, Knob::kQuota, &value), 0);
  CHECK_EQ(value, 200'000);
  CHECK_EQ(KnobOf(frozen, Knob::kRun, &value), 0);
  CHECK_EQ(value, 0);
  const Shown gone = Parsed("LoadState=not-found\nActiveState=inactive\nCPUQuotaPerSecUSec=infinity\n");
  for (const Knob knob : {Knob::kQuota, Knob::kFreeze, Knob::kRun}) CHECK_EQ(KnobOf(gone, knob, &value), ENOENT);
  // Its file was removed while it runs: it is still there to be thawed.
  CHECK_EQ(KnobOf(Parsed("LoadState=not-found\nActiveState=active\nFreezerState=frozen"), Knob::kFreeze, &value), 0);
  CHECK_EQ(KnobOf(Parsed("LoadState=loaded\nActiveState=active\n"), Knob::kFreeze, &value), EOPNOTSUPP);
  CHECK_EQ(KnobOf(Parsed("LoadState=loaded\nActiveState=deactivating\n"), Knob::kRun, &value), EAGAIN);
  CHECK_EQ(KnobOf(Parsed("LoadState=loaded\nActiveState=active\nFreezerState=frozen-by-parent"), Knob::kFreeze, &value), 0);
  CHECK_EQ(value, 1);
  Shown shown;
  for (const char* bad : {"", "LoadState=loaded", "LoadState=loaded\nActiveState", "ActiveState=active\nLoadState=",
                          "LoadState=loaded\nActiveState=active\nCPUQuotaPerSecUSec=much",
                          "LoadState=loaded\nActiveState=active\nExecMainStatus=-1", "LoadState=loaded\n\nActiveState=active"}) {
    if (ParseShow(bad, &shown)) Fail(__FILE__, __LINE__, bad);
  }
}

std::string Ended(const std::string& text, JobVerb verb, int status) { return FormatEnd(EndOf(Parsed(text), verb, status, 1000)); }

std::string Judged(const std::string& text, JobVerb verb) {
  const End end = Judge(Parsed(text), verb, 1000);
  return end.word == End::Word::kRunning ? "running" : FormatEnd(end);
}

void SaysWhatBecameOfAJob() {
  const std::string now = "ExecMainStartTimestampMonotonic=1000\nStateChangeTimestampMonotonic=1001\n";
  const std::string before = "ExecMainStartTimestampMonotonic=998\nStateChangeTimestampMonotonic=999\n";
  const std::string merged = "ExecMainStartTimestampMonotonic=998\nStateChangeTimestampMonotonic=1001\n";
  const std::string inactive = "LoadState=loaded\nActiveState=inactive\nResult=success\n";
  const std::string failed = "LoadState=loaded\nActiveState=failed\nResult=exit-code\nExecMainStatus=3\n";
  const std::string active = "LoadState=loaded\nActiveState=active\nResult=success\n";
  CHECK_EQ(Ended(inactive + now, JobVerb::kStart, 0), "done 0");
  CHECK_EQ(Ended(failed + now, JobVerb::kStart, 1), "failed 3");
  // The status of an earlier run is not this one's: a dependency failed before it ran.
  CHECK_EQ(Ended(failed + before, JobVerb::kStart, 1), "failed 1");
  CHECK_EQ(Ended("LoadState=not-found\nActiveState=inactive\n", JobVerb::kStart, 5), "failed 5");
  CHECK_EQ(Ended(failed + now, JobVerb::kStart, 0), "failed 3");
  CHECK_EQ(Ended("LoadState=loaded\nActiveState=failed\nResult=timeout\n" + now, JobVerb::kStart, 1), "timeout");
  // It was starting already when it was asked for.
  CHECK_EQ(Ended("LoadState=loaded\nActiveState=failed\nResult=timeout\n" + merged, JobVerb::kStart, 1), "timeout");
  CHECK_EQ(Judged(inactive + merged, JobVerb::kStart), "done 0");
  CHECK_EQ(Judged(inactive + merged, JobVerb::kRestart), "unknown");
  CHECK_EQ(Judged("LoadState=loaded\nActiveState=activating\n" + before, JobVerb::kStart), "running");
  CHECK_EQ(Ended(failed, JobVerb::kStop, 0), "done 0");
  CHECK_EQ(Ended(active, JobVerb::kStop, 0), "failed 0");

  CHECK_EQ(Judged(inactive + now, JobVerb::kStart), "done 0");
  CHECK_EQ(Judged(inactive + before, JobVerb::kStart), "unknown");
  CHECK_EQ(Judged(failed + now, JobVerb::kStart), "failed 3");
  CHECK_EQ(Judged("LoadState=loaded\nActiveState=activating\n" + now, JobVerb::kStart), "running");
  CHECK_EQ(Judged("LoadState=loaded\nActiveState=inactive\nJob=17\n", JobVerb::kStart), "running");
  CHECK_EQ(Judged(active + before, JobVerb::kStart), "done 0");
  CHECK_EQ(Judged(active + before, JobVerb::kRestart), "unknown");
  CHECK_EQ(Judged(active + now, JobVerb::kRestart), "done 0");
  CHECK_EQ(Judged(inactive + before, JobVerb::kStop), "done 0");
  CHECK_EQ(Judged(active, JobVerb::kStop), "unknown");
  CHECK_EQ(Judged("LoadState=loaded\nActiveState=deactivating\n", JobVerb::kStop), "running");
}

void TakesGarbageAsGarbage() {
  std::mt19937_64 random(11);
  const std::string whole[] = {"set quota a@b.service 200000", "await key restart a.service 1000 17",
                               "LoadState=loaded\nActiveState=active\nCPUQuotaPerSecUSec=1min 2.5s\nJob=1\nExecMainStatus=2\n"};
  for (int i = 0; i < 30'000; ++i) {
    std::string text = whole[random() % 3];
    for (uint64_t edits = random() % 4; edits > 0 && !text.empty(); --edits) {
      const size_t at = random() % text.size();
      if (random() % 2 == 0) text[at] = static_cast<char>(random());
      else text.erase(at, 1 + random() % 5);
    }
    Request request;
    if (ParseRequest(text, &request) == 0) {
      CHECK(IsUnit(request.unit));
      Words words;
      WordsOf(request, &words);
    }
    Shown shown;
    int64_t value = 0;
    if (ParseShow(text, &shown)) (void)KnobOf(shown, Knob::kQuota, &value);
  }
}

// Runs `sh -c text` as if it were systemctl. False when it did not end in twice its time.
bool Run(Command* command, const char* text, int64_t time_ns) {
  Words words;
  words.words[0] = "-c";
  words.words[1] = text;
  words.count = 2;
  CHECK_EQ(command->Start("/bin/sh", words, MonotonicNs() + time_ns), 0);
  for (const int64_t until_ns = MonotonicNs() + 2 * time_ns; MonotonicNs() < until_ns;) {
    pollfd output = {command->fd(), POLLIN, 0};
    poll(&output, 1, 5);
    command->Hear();
    if (MonotonicNs() > command->deadline_ns() && !command->timed_out()) command->Kill();
    int status = 0;
    if (waitpid(command->pid(), &status, WNOHANG) != command->pid()) continue;
    command->Ended(status);
    return true;
  }
  return false;
}

void StartsSystemctlWithNothingOfOurs() {
  setenv("SECRET", "ours", 1);
  int ends[2];
  CHECK_EQ(pipe(ends), 0);  // Not close-on-exec: what a mistake would leave open.
  sigset_t blocked;
  sigfillset(&blocked);
  sigprocmask(SIG_BLOCK, &blocked, nullptr);
  signal(SIGPIPE, SIG_IGN);
  Command command;
  CHECK(Run(&command, "env; ls /proc/self/fd | wc -l; grep -E 'SigBlk|SigIgn' /proc/self/status; pwd; readlink /proc/self/fd/0", 10 * kNsPerSecond));
  CHECK_EQ(command.status(), 0);
  const std::string& said = command.output();
  CHECK(said.find("SECRET") == std::string::npos);
  CHECK(said.find("LC_ALL=C") != std::string::npos);
  CHECK(said.find("\n4\n") != std::string::npos);  // The three, and that of ls itself.
  CHECK(said.find("SigBlk:\t0000000000000000") != std::string::npos);
  CHECK(said.find("SigIgn:\t0000000000000000") != std::string::npos);
  CHECK(said.find("\n/\n/dev/null\n") != std::string::npos);
  sigprocmask(SIG_UNBLOCK, &blocked, nullptr);
  close(ends[0]);
  close(ends[1]);
}

void EndsOneThatHangsOrFloods() {
  Command hung;
  CHECK(Run(&hung, "trap '' TERM; sleep 100 & wait", 200'000'000));
  CHECK(hung.timed_out());
  CHECK_EQ(hung.status(), -1);
  Command flood;
  CHECK(Run(&flood, "head -c 3000000 /dev/zero; exit 3", 10 * kNsPerSecond));
  CHECK_EQ(flood.status(), 3);
  CHECK(!flood.whole());
  CHECK_EQ(flood.output().size(), kMaxOutputBytes);
  // It ended; what it left behind holds its output, and nobody waits for that.
  Command orphan;
  const int64_t since_ns = MonotonicNs();
  CHECK(Run(&orphan, "sleep 3 & exit 0", 10 * kNsPerSecond));
  CHECK(MonotonicNs() - since_ns < 2 * kNsPerSecond);
}

}  // namespace
}  // namespace skos::test

int main() {
  using namespace skos::test;
  RUN(ExecutesFixedWordsOnly);
  RUN(RefusesWhatIsNoRequest);
  RUN(ReadsTimeSpans);
  RUN(JudgesUnitsByTheirOwnWord);
  RUN(SaysWhatBecameOfAJob);
  RUN(TakesGarbageAsGarbage);
  RUN(StartsSystemctlWithNothingOfOurs);
  RUN(EndsOneThatHangsOrFloods);
}
