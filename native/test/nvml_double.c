/* A libnvidia-ml.so.1 that behaves, or misbehaves, as a script says. For tests and benchmarks: no line of it is shipped.
 *
 * Environment
 *   SKOS_NVML_SCRIPT   the script; read anew when the file changes (time, size or inode). Without one the driver is not loaded.
 *   SKOS_NVML_LOG      a file that gets a line "PID CALL GPU CODE" for each init, shutdown, handle, event set and set ("log all": each call)
 *   SKOS_NVML_STATE    a file that holds what was set, for all processes (beside it a lock); without it a process has what it set itself
 *
 * Script: one directive a line, '#' begins a comment. CODE is an nvmlReturn_t number. CALL is a function's full name. A line that is not
 * understood goes to stderr, and then every call answers 999.
 *
 *   driver VERSION [NVML]           570.86.15 12.570.86.15 without
 *   driver unloaded                 init answers 9, everything else 1, also after the driver is back, until the next init
 *   return CALL CODE                calls without a GPU: nvmlInit_v2 and so on
 *   hang CALL [MS|forever]          MS: so long; forever: not even the script ends it; otherwise while the script says so. The thread
 *                                   blocks all signals.
 *   log all
 *   gpu N pci ADDRESS               there is a GPU N (0 … 15); first of its lines
 *   gpu N preset h100               as H100_PRESET below; lines that follow override
 *   gpu N uuid|name|serial|vbios TEXT
 *   gpu N KEY VALUE                 what a getter says; a getter whose key is not given is not supported (3)
 *   gpu N absent KEY                takes it away again
 *   gpu N return CALL|KEY CODE      this call, or whatever reads this key
 *   gpu N hang CALL [MS|forever]
 *   gpu N lost [after CALLS]        15 from every getter but name, uuid and PCI address; handles cannot be had any more
 *   gpu N answers CALL              … and but this
 *   gpu N process PID BYTES|na compute|graphics
 *   gpu N grow K                    K more processes at each look at a list
 *   gpu N mig GI CI UUID BYTES NAME
 *   gpu N set NAME sticks|ignored|clamps|CODE     power_limit, locked_clocks, memory_locked_clocks, persistence, fan
 *   gpu N forget                    what was set is not any more: a GPU that was reset
 *   gpu N event TYPE DATA [at MS|after MS] [times K] [instance GI CI] [lost] [tag WORD]
 *        TYPE: xid, recovery_action, gpu_unavailable, or a number. At MS after the script was written (0 without), to sets that were
 *        registered before then: a script that is written while somebody listens. after MS: of the registration of each set. A set
 *        gets each line once, also when the script is written again with it; another tag makes it another line. lost: the call
 *        answers 15.
 *
 * VALUE: NUMBER | na (the marker for "none") | ramp FROM TO MS (since the script was written) | seq A B C … (a step each read, ends at the last)
 *
 * KEY: temperature margin threshold.T power energy power_limit power_limit.min .max .default .enforced clock.T clock_max.T reasons pstate
 *   violation.P utilization.gpu .memory memory.total .used .reserved .free fans fan.N fan_rpm.N ecc.E.C ecc.E.C.L sram_threshold
 *   remapped.0 … .3 retired.CAUSE retired_pending pcie.gen .width .gen_max .width_max .replays link.N link.N.C persistence ecc_mode
 *   mig_mode mig_max arch event_types process_flood (so many more processes) field.ID type.ID (its valueType, any number)
 * with the numbers of nvml.h for T, P, E (error type), C (counter), L (location) and ID.
 *
 * With -DOLD it lacks the functions that drivers of 2020 lacked. Thread-safe.
 */
#define _GNU_SOURCE
#include "test/nvml_double.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_GPUS 16
#define MAX_VALUES 512 /* A power of two: open addressing. */
#define MAX_STEPS 8
#define MAX_RULES 64
#define MAX_EVENTS 64
#define MAX_SETS 64
#define MAX_SEEN 128
#define MAX_PROCESSES 64
#define MAX_MIG 16
#define MAX_STORED 256
#define MAX_GROWTH 100000
#define MAX_SCRIPT (1 << 20)
#define NOT_AVAILABLE UINT64_MAX
#define NO_INSTANCE 0xffffffffu
#define POLL_NS 10000000
#define NS_PER_S 1000000000LL

enum { CONSTANT, RAMP, SEQUENCE };

struct value {
  char key[40];
  int kind, steps, next, real;
  uint64_t number[MAX_STEPS]; /* Two's complement. */
  double decimal;
};
struct rule {
  char name[48];
  int code;
};
struct hang {
  char call[48];
  long ms; /* -1: for ever; 0: while the script says so. */
};
struct process {
  unsigned pid;
  uint64_t bytes;
  int compute;
};
struct gpu;
struct mig {
  struct gpu *parent;
  unsigned gi, ci;
  uint64_t bytes;
  char uuid[96], name[96];
};
/* What the script says of one GPU, or of the library. */
struct gpu {
  int there, lost, forget;
  long lost_after, calls;
  char pci[32], uuid[96], name[96], serial[32], vbios[32];
  struct value values[MAX_VALUES];
  struct rule returns[MAX_RULES], answers[MAX_RULES], sets[MAX_RULES];
  int return_count, answer_count, set_count;
  struct hang hangs[MAX_RULES];
  int hang_count;
  struct process processes[MAX_PROCESSES];
  int process_count;
  unsigned grow, grown;
  struct mig migs[MAX_MIG];
  int mig_count;
};
struct event {
  int gpu, lost;
  uint64_t type, data, hash;
  unsigned gi, ci;
  long at_ms, after_ms, times;
};
struct event_set {
  int used;
  int watch; /* inotify on the script's directory; -1 without. */
  uint64_t types[MAX_GPUS];
  int64_t since_ns[MAX_GPUS];
  struct stat script[MAX_GPUS]; /* As it was at the registration. */
  struct { uint64_t hash; long times; } seen[MAX_SEEN];
  int seen_count;
};
struct stored {
  int gpu;
  char key[40];
  uint64_t number;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
/* All below under the mutex. */
static struct gpu gpus[MAX_GPUS], library;
static struct event events[MAX_EVENTS];
static int event_count;
static struct event_set sets[MAX_SETS];
static struct stored store[MAX_STORED];
static int stored_count;
static char driver_version[80], nvml_version[80];
static int unloaded, log_all, broken, init_count;
static struct stat script_stat, state_stat;
static int64_t script_ns;

static const char *const H100_PRESET[] = {
    "name NVIDIA H100 80GB HBM3", "serial 1654522001234", "vbios 96.00.5E.00.01", "arch 9",
    "temperature 45", "threshold.0 92", "threshold.1 89", "threshold.2 95", "threshold.3 87", "margin 42",
    "field.82 52", "field.185 118000", "field.186 121000", "power 120000", "energy 123456789", "field.83 123456789", "type.83 3",
    "power_limit 700000", "power_limit.min 200000", "power_limit.max 700000", "power_limit.default 700000",
    "power_limit.enforced 700000", "clock.0 1755", "clock.1 1755", "clock.2 2619", "clock.3 1380", "clock_max.0 1980",
    "clock_max.1 1980", "clock_max.2 2619", "clock_max.3 1545", "reasons 0x1", "pstate 0", "violation.0 5000000000",
    "violation.1 2000000000", "field.74 5000000000", "type.74 3", "field.75 2000000000", "type.75 3", "field.252 1000000000",
    "type.252 3", "field.253 0", "type.253 3", "utilization.gpu 63", "utilization.memory 21", "memory.total 85899345920",
    "memory.reserved 642580480", "memory.used 12884901888", "memory.free 72371863552", "ecc.0.0 4", "ecc.1.0 0", "ecc.0.1 12",
    "ecc.1.1 1", "field.3 4", "type.3 3", "field.4 0", "type.4 3", "field.5 12", "type.5 3", "field.6 1", "type.6 3", "ecc.0.0.2 3",
    "ecc.0.0.7 1", "ecc.1.0.2 0", "ecc.1.0.7 0", "ecc.0.1.2 10", "ecc.0.1.7 2", "ecc.1.1.2 1", "ecc.1.1.7 0", "sram_threshold 0",
    "field.142 0", "field.143 1", "field.144 0", "field.145 0", "remapped.0 0", "remapped.1 1", "remapped.2 0", "remapped.3 0",
    "pcie.gen 5", "pcie.width 16", "pcie.gen_max 5", "pcie.width_max 16", "pcie.replays 2", "field.94 2", "field.173 3",
    "field.179 0", "field.180 0", "field.38 0", "type.38 3", "field.45 0", "type.45 3", "field.52 5", "type.52 3", "field.59 1",
    "type.59 3", "link.0 1", "link.1 1", "link.2 1", "link.3 1", "link.4 1", "link.5 1", "link.6 1", "link.7 1", "link.8 1", "link.9 1",
    "link.10 1", "link.11 1", "link.12 1", "link.13 1", "link.14 1", "link.15 1", "link.16 1", "link.17 1", "field.230 0",
    "persistence 1", "ecc_mode 1", "mig_mode 0", "mig_max 7", "event_types 65439"};

static int64_t now_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static int64_t mtime_ns(const struct stat *file) { return file->st_mtim.tv_sec * NS_PER_S + file->st_mtim.tv_nsec; }

static int same_file(const struct stat *a, const struct stat *b) {
  return a->st_ino == b->st_ino && a->st_size == b->st_size && mtime_ns(a) == mtime_ns(b);
}

static void copy(char *to, size_t size, const char *from) { snprintf(to, size, "%s", from == NULL ? "" : from); }

static uint64_t hash_of(const char *text) {
  uint64_t hash = 1469598103934665603u;
  for (; *text != '\0'; ++text) hash = (hash ^ (unsigned char)*text) * 1099511628211u;
  return hash;
}

/* ---- The script ---------------------------------------------------------------------------------------------------------- */

static struct value *slot_of(struct gpu *gpu, const char *key, int make) {
  for (uint64_t i = hash_of(key), tries = 0; tries < MAX_VALUES; ++i, ++tries) {
    struct value *value = &gpu->values[i & (MAX_VALUES - 1)];
    if (strcmp(value->key, key) == 0) return value;
    if (value->key[0] != '\0') continue;
    if (!make) return NULL;
    copy(value->key, sizeof value->key, key);
    return value;
  }
  return NULL;
}

static int parse_number(const char *word, struct value *value, int step) {
  char *end = NULL;
  if (word == NULL) return 0;
  value->real = strchr(word, '.') != NULL;
  if (strcmp(word, "na") == 0) {
    value->number[step] = NOT_AVAILABLE;
    return 1;
  }
  if (value->real) value->decimal = strtod(word, &end);
  else value->number[step] = word[0] == '-' ? (uint64_t)strtoll(word, &end, 0) : strtoull(word, &end, 0);
  return end != word && *end == '\0';
}

static char *word(char **rest) {
  char *found = strtok_r(NULL, " \t", rest);
  return found;
}

static char *remainder_of(char **rest) {
  char *text = *rest == NULL ? (char *)"" : *rest;
  while (*text == ' ' || *text == '\t') ++text;
  return text;
}

static int set_key(struct gpu *gpu, const char *key, char **rest) {
  struct value *value = slot_of(gpu, key, 1);
  char *first = word(rest);
  if (value == NULL || first == NULL) return 0;
  value->kind = CONSTANT;
  value->steps = value->next = 0;
  if (strcmp(first, "ramp") == 0) {
    value->kind = RAMP;
    for (int i = 0; i < 3; ++i) {
      if (!parse_number(word(rest), value, i)) return 0;
    }
    value->steps = 3;
    return 1;
  }
  if (strcmp(first, "seq") == 0) {
    value->kind = SEQUENCE;
    for (char *next = word(rest); next != NULL && value->steps < MAX_STEPS; next = word(rest)) {
      if (!parse_number(next, value, value->steps++)) return 0;
    }
    return value->steps > 0;
  }
  value->steps = 1;
  return parse_number(first, value, 0);
}

static int add_rule(struct rule *rules, int *count, const char *name, const char *code) {
  if (name == NULL || code == NULL || *count == MAX_RULES) return 0;
  copy(rules[*count].name, sizeof rules[*count].name, name);
  rules[(*count)++].code = atoi(code);
  return 1;
}

static int add_hang(struct gpu *gpu, const char *call, const char *how) {
  if (call == NULL || gpu->hang_count == MAX_RULES) return 0;
  struct hang *hang = &gpu->hangs[gpu->hang_count++];
  copy(hang->call, sizeof hang->call, call);
  hang->ms = how == NULL ? 0 : strcmp(how, "forever") == 0 ? -1 : atol(how);
  return 1;
}

static int add_set(struct gpu *gpu, const char *name, const char *how) {
  if (how == NULL) return 0;
  const char *code = strcmp(how, "sticks") == 0 ? "0" : strcmp(how, "ignored") == 0 ? "-1" : strcmp(how, "clamps") == 0 ? "-2" : how;
  return add_rule(gpu->sets, &gpu->set_count, name, code);
}

static uint64_t event_type(const char *name) {
  if (name == NULL) return 0;
  if (strcmp(name, "xid") == 0) return 0x8;
  if (strcmp(name, "gpu_unavailable") == 0) return 0x4000;
  if (strcmp(name, "recovery_action") == 0) return 0x8000;
  return strtoull(name, NULL, 0);
}

static int add_event(int gpu, uint64_t hash, char **rest) {
  if (event_count == MAX_EVENTS) return 0;
  struct event *event = &events[event_count];
  memset(event, 0, sizeof *event);
  event->gpu = gpu;
  event->hash = hash;
  event->gi = event->ci = NO_INSTANCE;
  event->times = 1;
  event->after_ms = -1;
  event->type = event_type(word(rest));
  const char *data = word(rest);
  if (event->type == 0 || data == NULL) return 0;
  event->data = strtoull(data, NULL, 0);
  for (const char *option = word(rest); option != NULL; option = word(rest)) {
    if (strcmp(option, "lost") == 0) {
      event->lost = 1;
      continue;
    }
    const char *argument = word(rest);
    if (argument == NULL) return 0;
    if (strcmp(option, "at") == 0) event->at_ms = atol(argument);
    else if (strcmp(option, "after") == 0) event->after_ms = atol(argument);
    else if (strcmp(option, "times") == 0) event->times = atol(argument);
    else if (strcmp(option, "instance") == 0) {
      const char *ci = word(rest);
      if (ci == NULL) return 0;
      event->gi = (unsigned)atoi(argument);
      event->ci = (unsigned)atoi(ci);
    } else if (strcmp(option, "tag") != 0) return 0;
  }
  ++event_count;
  return 1;
}

static int add_process(struct gpu *gpu, char **rest) {
  const char *pid = word(rest), *bytes = word(rest), *type = word(rest);
  if (type == NULL || gpu->process_count == MAX_PROCESSES) return 0;
  struct process *process = &gpu->processes[gpu->process_count++];
  process->pid = (unsigned)atol(pid);
  process->bytes = strcmp(bytes, "na") == 0 ? NOT_AVAILABLE : strtoull(bytes, NULL, 0);
  process->compute = strcmp(type, "compute") == 0;
  return 1;
}

static int add_mig(struct gpu *gpu, char **rest) {
  const char *gi = word(rest), *ci = word(rest), *uuid = word(rest), *bytes = word(rest);
  if (bytes == NULL || gpu->mig_count == MAX_MIG) return 0;
  struct mig *mig = &gpu->migs[gpu->mig_count++];
  mig->parent = gpu;
  mig->gi = (unsigned)atoi(gi);
  mig->ci = (unsigned)atoi(ci);
  mig->bytes = strtoull(bytes, NULL, 0);
  copy(mig->uuid, sizeof mig->uuid, uuid);
  copy(mig->name, sizeof mig->name, remainder_of(rest));
  return 1;
}

static int gpu_directive(int index, const char *verb, uint64_t hash, char **rest);

static int preset(int index, const char *name) {
  if (name == NULL || strcmp(name, "h100") != 0) return 0;
  snprintf(gpus[index].uuid, sizeof gpus[index].uuid, "GPU-00000000-0000-4000-8000-%012d", index);
  for (size_t i = 0; i < sizeof H100_PRESET / sizeof *H100_PRESET; ++i) {
    char line[128], *rest = NULL;
    copy(line, sizeof line, H100_PRESET[i]);
    const char *verb = strtok_r(line, " ", &rest);
    if (!gpu_directive(index, verb, 0, &rest)) return 0;
  }
  return 1;
}

static int gpu_directive(int index, const char *verb, uint64_t hash, char **rest) {
  struct gpu *gpu = &gpus[index];
  if (!gpu->there && strcmp(verb, "pci") != 0) return 0;
  if (strcmp(verb, "pci") == 0) {
    gpu->there = 1;
    copy(gpu->pci, sizeof gpu->pci, remainder_of(rest));
    return gpu->pci[0] != '\0';
  }
  if (strcmp(verb, "uuid") == 0) return copy(gpu->uuid, sizeof gpu->uuid, remainder_of(rest)), 1;
  if (strcmp(verb, "name") == 0) return copy(gpu->name, sizeof gpu->name, remainder_of(rest)), 1;
  if (strcmp(verb, "serial") == 0) return copy(gpu->serial, sizeof gpu->serial, remainder_of(rest)), 1;
  if (strcmp(verb, "vbios") == 0) return copy(gpu->vbios, sizeof gpu->vbios, remainder_of(rest)), 1;
  if (strcmp(verb, "preset") == 0) return preset(index, word(rest));
  if (strcmp(verb, "process") == 0) return add_process(gpu, rest);
  if (strcmp(verb, "mig") == 0) return add_mig(gpu, rest);
  if (strcmp(verb, "event") == 0) return add_event(index, hash, rest);
  if (strcmp(verb, "forget") == 0) return gpu->forget = 1;
  const char *first = NULL;
  if (strcmp(verb, "lost") == 0) {
    first = word(rest);
    const char *calls = first == NULL ? "0" : word(rest);
    gpu->lost = 1;
    gpu->lost_after = calls == NULL ? 0 : atol(calls);
    return first == NULL || (strcmp(first, "after") == 0 && calls != NULL);
  }
  if (strcmp(verb, "absent") == 0) {
    first = word(rest);
    struct value *value = first == NULL ? NULL : slot_of(gpu, first, 0);
    if (value != NULL) value->steps = 0;
    return first != NULL;
  }
  if (strcmp(verb, "grow") == 0) {
    first = word(rest);
    gpu->grow = first == NULL ? 0 : (unsigned)atoi(first);
    return first != NULL;
  }
  if (strcmp(verb, "answers") == 0) return add_rule(gpu->answers, &gpu->answer_count, word(rest), "0");
  if (strcmp(verb, "return") == 0) return first = word(rest), add_rule(gpu->returns, &gpu->return_count, first, word(rest));
  if (strcmp(verb, "hang") == 0) return first = word(rest), add_hang(gpu, first, word(rest));
  if (strcmp(verb, "set") == 0) return first = word(rest), add_set(gpu, first, word(rest));
  return set_key(gpu, verb, rest);
}

static int directive(char *line) {
  const uint64_t hash = hash_of(line);
  char *rest = NULL;
  const char *verb = strtok_r(line, " \t", &rest);
  if (verb == NULL) return 1;
  if (strcmp(verb, "log") == 0) return log_all = 1;
  if (strcmp(verb, "driver") == 0) {
    const char *version = word(&rest), *nvml = word(&rest);
    if (version == NULL) return 0;
    if (strcmp(version, "unloaded") == 0) return unloaded = 1;
    copy(driver_version, sizeof driver_version, version);
    if (nvml != NULL) copy(nvml_version, sizeof nvml_version, nvml);
    else snprintf(nvml_version, sizeof nvml_version, "12.%s", version);
    return 1;
  }
  const char *first = word(&rest);
  if (strcmp(verb, "return") == 0) return add_rule(library.returns, &library.return_count, first, word(&rest));
  if (strcmp(verb, "hang") == 0) return add_hang(&library, first, word(&rest));
  if (strcmp(verb, "gpu") != 0 || first == NULL) return 0;
  const int index = atoi(first);
  const char *what = word(&rest);
  if (what == NULL || index < 0 || index >= MAX_GPUS) return 0;
  return gpu_directive(index, what, hash, &rest);
}

static void parse(char *text) {
  char *rest = NULL;
  int number = 0;
  for (int i = 0; i < MAX_GPUS; ++i) {
    if (gpus[i].there) memset(&gpus[i], 0, sizeof gpus[i]); /* Pages of GPUs that never were stay untouched. */
  }
  memset(&library, 0, sizeof library);
  event_count = unloaded = log_all = broken = 0;
  copy(driver_version, sizeof driver_version, "570.86.15");
  copy(nvml_version, sizeof nvml_version, "12.570.86.15");
  for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
    char whole[256];
    char *comment = strchr(line, '#');
    if (comment != NULL) *comment = '\0';
    copy(whole, sizeof whole, line);
    ++number;
    if (directive(line)) continue;
    fprintf(stderr, "nvml_double: not understood: %s\n", whole);
    broken = 1;
  }
}

static void read_state(void) {
  const char *path = getenv("SKOS_NVML_STATE");
  struct stat now;
  if (path == NULL || stat(path, &now) != 0 || same_file(&now, &state_stat)) return;
  FILE *file = fopen(path, "re");
  if (file == NULL) return;
  struct stored one;
  unsigned long long number;
  stored_count = 0;
  while (stored_count < MAX_STORED && fscanf(file, "%d %39s %llu", &one.gpu, one.key, &number) == 3) {
    one.number = number;
    store[stored_count++] = one;
  }
  fclose(file);
  state_stat = now;
}

static void write_state(void) {
  const char *path = getenv("SKOS_NVML_STATE");
  if (path == NULL) return;
  char temporary[512];
  snprintf(temporary, sizeof temporary, "%s.%d", path, (int)getpid());
  FILE *file = fopen(temporary, "we");
  if (file == NULL) return;
  for (int i = 0; i < stored_count; ++i) {
    fprintf(file, "%d %s %llu\n", store[i].gpu, store[i].key, (unsigned long long)store[i].number);
  }
  fclose(file);
  rename(temporary, path);
  stat(path, &state_stat);
}

/* Each GPU is set by a process of its own: two that read and write at once would lose what one of them set. */
static int lock_state(void) {
  const char *path = getenv("SKOS_NVML_STATE");
  char name[512];
  if (path == NULL) return -1;
  snprintf(name, sizeof name, "%s.lock", path);
  const int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd >= 0) flock(fd, LOCK_EX);
  return fd;
}

static void unlock_state(int fd) {
  if (fd >= 0) close(fd);
}

static struct stored *stored_of(int gpu, const char *key) {
  for (int i = 0; i < stored_count; ++i) {
    if (store[i].gpu == gpu && strcmp(store[i].key, key) == 0) return &store[i];
  }
  return NULL;
}

static void keep(int gpu, const char *key, uint64_t number) {
  const int lock = lock_state();
  read_state();
  struct stored *one = stored_of(gpu, key);
  if (one == NULL && stored_count < MAX_STORED) {
    one = &store[stored_count++];
    one->gpu = gpu;
    copy(one->key, sizeof one->key, key);
  }
  if (one != NULL) one->number = number;
  write_state();
  unlock_state(lock);
}

/* Only keys that begin so; "" is all. */
static void forget(int gpu, const char *prefix) {
  int kept = 0;
  const int lock = lock_state();
  read_state();
  for (int i = 0; i < stored_count; ++i) {
    if (store[i].gpu != gpu || strncmp(store[i].key, prefix, strlen(prefix)) != 0) store[kept++] = store[i];
  }
  stored_count = kept;
  write_state();
  unlock_state(lock);
}

static void reload(void) {
  const char *path = getenv("SKOS_NVML_SCRIPT");
  struct stat now;
  if (path == NULL || stat(path, &now) != 0) {
    unloaded = 1;
    init_count = 0;
    memset(&script_stat, 0, sizeof script_stat);
    return;
  }
  read_state();
  if (same_file(&now, &script_stat)) return;
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  char *text = malloc(MAX_SCRIPT);
  const ssize_t length = text == NULL || fstat(fd, &now) != 0 ? -1 : read(fd, text, MAX_SCRIPT - 1);
  close(fd);
  if (length >= 0) {
    text[length] = '\0';
    script_stat = now;
    script_ns = mtime_ns(&now);
    parse(text);
    for (int i = 0; i < MAX_GPUS; ++i) {
      if (gpus[i].forget) forget(i, "");
    }
    if (unloaded) init_count = 0;
  }
  free(text);
}

/* ---- A call ----------------------------------------------------------------------------------------------------------------- */

static int index_of(const struct gpu *gpu) { return gpu == &library ? -1 : (int)(gpu - gpus); }

static void log_call(const char *call, const struct gpu *gpu, int code) {
  const char *path = getenv("SKOS_NVML_LOG");
  if (path == NULL) return;
  char line[128];
  const int length = snprintf(line, sizeof line, "%d %s %d %d\n", (int)getpid(), call, index_of(gpu), code);
  const int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return;
  if (write(fd, line, (size_t)length) < 0) perror("nvml_double: log");
  close(fd);
}

static const struct rule *rule_of(const struct rule *rules, int count, const char *name) {
  for (int i = count - 1; i >= 0; --i) {
    if (strcmp(rules[i].name, name) == 0) return &rules[i];
  }
  return NULL;
}

static const struct hang *hang_of(const struct gpu *gpu, const char *call) {
  for (int i = 0; i < gpu->hang_count; ++i) {
    if (strcmp(gpu->hangs[i].call, call) == 0) return &gpu->hangs[i];
  }
  return NULL;
}

/* Gives the mutex up meanwhile. Signals stay blocked for good: a thread in a driver does not get any. */
static void hang_if_told(struct gpu *gpu, const char *call) {
  const struct hang *hang = hang_of(gpu, call);
  if (hang == NULL) return;
  const long ms = hang->ms;
  const int64_t begin = now_ns(CLOCK_MONOTONIC);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  log_call("hang", gpu, 0);
  while (ms < 0 || (ms > 0 && now_ns(CLOCK_MONOTONIC) - begin < ms * 1000000) || (ms == 0 && hang_of(gpu, call) != NULL)) {
    const struct timespec pause = {0, ms > 0 ? 1000000 : POLL_NS};
    pthread_mutex_unlock(&mutex);
    nanosleep(&pause, NULL);
    pthread_mutex_lock(&mutex);
    reload();
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static int is_lost(struct gpu *gpu, const char *call) {
  if (!gpu->lost || gpu->calls <= gpu->lost_after) return 0;
  const char *const always[] = {"nvmlDeviceGetName", "nvmlDeviceGetUUID", "nvmlDeviceGetPciInfo_v3"};
  for (size_t i = 0; i < sizeof always / sizeof *always; ++i) {
    if (strcmp(call, always[i]) == 0) return 0;
  }
  return rule_of(gpu->answers, gpu->answer_count, call) == NULL;
}

/* Takes the mutex; the caller gives it up with leave(). */
static int enter(struct gpu *gpu, const char *call) {
  pthread_mutex_lock(&mutex);
  reload();
  hang_if_told(gpu, call);
  const struct rule *rule = rule_of(gpu->returns, gpu->return_count, call);
  if (broken) return UNKNOWN;
  if (rule != NULL) return rule->code;
  if (unloaded || init_count == 0) return UNINITIALIZED;
  if (gpu == &library) return SUCCESS;
  if (!gpu->there) return GPU_NOT_FOUND;
  ++gpu->calls;
  return is_lost(gpu, call) ? GPU_IS_LOST : SUCCESS;
}

static int leave(struct gpu *gpu, const char *call, int code, int important) {
  if (important || log_all) log_call(call, gpu, code);
  pthread_mutex_unlock(&mutex);
  return code;
}

static struct gpu *gpu_of(void *device) {
  for (int i = 0; i < MAX_GPUS; ++i) {
    if (device == &gpus[i]) return &gpus[i];
  }
  return NULL;
}

/* Under the mutex: an index that has no instance any more is none. */
static struct mig *mig_of(void *device) {
  for (int i = 0; i < MAX_GPUS; ++i) {
    for (int m = 0; m < MAX_MIG; ++m) {
      if (device == &gpus[i].migs[m]) return m < gpus[i].mig_count ? &gpus[i].migs[m] : NULL;
    }
  }
  return NULL;
}

static uint64_t ramp(const struct value *value) {
  const double from = (double)(int64_t)value->number[0], to = (double)(int64_t)value->number[1];
  const double ms = (double)(now_ns(CLOCK_REALTIME) - script_ns) / 1e6, whole = (double)value->number[2];
  const double share = whole <= 0 || ms >= whole ? 1 : ms < 0 ? 0 : ms / whole;
  return (uint64_t)(int64_t)(from + (to - from) * share);
}

/* Under the mutex. What was set goes before the script. */
static int value_of(struct gpu *gpu, const char *key, uint64_t *number) {
  const struct rule *rule = rule_of(gpu->returns, gpu->return_count, key);
  if (rule != NULL) return rule->code;
  struct value *value = slot_of(gpu, key, 0);
  if (value == NULL || value->steps == 0) return NOT_SUPPORTED;
  const struct stored *one = stored_of(index_of(gpu), key);
  if (one != NULL) *number = one->number;
  else if (value->kind == RAMP) *number = ramp(value);
  else *number = value->number[value->kind == SEQUENCE ? value->next : 0];
  if (value->kind == SEQUENCE && value->next < value->steps - 1) ++value->next;
  return SUCCESS;
}

static int get64(void *device, const char *call, const char *key, unsigned long long *out) {
  struct gpu *gpu = gpu_of(device);
  if (gpu == NULL || out == NULL) return INVALID_ARGUMENT;
  uint64_t number = 0;
  int code = enter(gpu, call);
  if (code == SUCCESS) code = value_of(gpu, key, &number);
  if (code == SUCCESS) *out = number;
  return leave(gpu, call, code, 0);
}

static int get32(void *device, const char *call, const char *key, unsigned *out) {
  unsigned long long number = 0;
  if (out == NULL) return INVALID_ARGUMENT;
  const int code = get64(device, call, key, &number);
  if (code == SUCCESS) *out = (unsigned)number;
  return code;
}

static int get_signed(void *device, const char *call, const char *key, int *out) {
  unsigned number = 0;
  if (out == NULL) return INVALID_ARGUMENT;
  const int code = get32(device, call, key, &number);
  if (code == SUCCESS) *out = (int)number;
  return code;
}

static const char *key_of(char *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
static const char *key_of(char *buffer, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(buffer, 40, format, arguments);
  va_end(arguments);
  return buffer;
}

static int give_text(const char *text, char *out, unsigned length) {
  if (out == NULL) return INVALID_ARGUMENT;
  if (text[0] == '\0') return NOT_SUPPORTED;
  if (strlen(text) + 1 > length) return INSUFFICIENT_SIZE;
  copy(out, length, text);
  return SUCCESS;
}

/* ---- Library ------------------------------------------------------------------------------------------------------------------ */

int nvmlInit_v2(void) {
  pthread_mutex_lock(&mutex);
  reload();
  hang_if_told(&library, __func__);
  const struct rule *rule = rule_of(library.returns, library.return_count, __func__);
  const int code = broken ? UNKNOWN : rule != NULL ? rule->code : unloaded ? DRIVER_NOT_LOADED : SUCCESS;
  if (code == SUCCESS) ++init_count;
  return leave(&library, __func__, code, 1);
}

int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  return nvmlInit_v2();
}

int nvmlShutdown(void) {
  int code = enter(&library, __func__);
  if (code == SUCCESS && --init_count == 0) memset(sets, 0, sizeof sets);
  return leave(&library, __func__, code, 1);
}

const char *nvmlErrorString(int code) {
  switch (code) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    case RESET_REQUIRED: return "GPU requires reset";
    case LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    case UNKNOWN: return "Unknown Error";
    default: return "Error";
  }
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
  int code = enter(&library, __func__);
  if (code == SUCCESS) code = give_text(driver_version, version, length);
  return leave(&library, __func__, code, 0);
}

int nvmlSystemGetNVMLVersion(char *version, unsigned length) {
  pthread_mutex_lock(&mutex);
  reload();
  return leave(&library, __func__, give_text(nvml_version, version, length), 0);
}

int nvmlDeviceGetCount_v2(unsigned *count) {
  int code = enter(&library, __func__);
  if (count == NULL) code = INVALID_ARGUMENT;
  if (code == SUCCESS) *count = 0;
  for (int i = 0; i < MAX_GPUS && code == SUCCESS; ++i) *count += (unsigned)gpus[i].there;
  return leave(&library, __func__, code, 0);
}

/* A rule of the GPU for this call goes before its loss. */
static int give_handle(struct gpu *gpu, const char *call, void **device) {
  int code = enter(gpu == NULL ? &library : gpu, call);
  if (code == SUCCESS && gpu == NULL) code = NOT_FOUND;
  if (code == SUCCESS) *device = gpu;
  return leave(gpu == NULL ? &library : gpu, call, code, 1);
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
  struct gpu *found = NULL;
  if (device == NULL) return INVALID_ARGUMENT;
  pthread_mutex_lock(&mutex);
  reload();
  for (unsigned i = 0, place = 0; i < MAX_GPUS && found == NULL; ++i) {
    if (gpus[i].there && place++ == index) found = &gpus[i];
  }
  pthread_mutex_unlock(&mutex);
  const int code = give_handle(found, __func__, device);
  return code == NOT_FOUND ? INVALID_ARGUMENT : code;
}

static int parse_pci(const char *text, unsigned address[4]) {
  int end = 0;
  return sscanf(text, "%x:%x:%x.%x%n", &address[0], &address[1], &address[2], &address[3], &end) == 4 && text[end] == '\0';
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device) {
  unsigned wanted[4], has[4];
  struct gpu *found = NULL;
  if (bus_id == NULL || device == NULL || !parse_pci(bus_id, wanted)) return INVALID_ARGUMENT;
  pthread_mutex_lock(&mutex);
  reload();
  for (int i = 0; i < MAX_GPUS && found == NULL; ++i) {
    if (gpus[i].there && parse_pci(gpus[i].pci, has) && memcmp(wanted, has, sizeof has) == 0) found = &gpus[i];
  }
  pthread_mutex_unlock(&mutex);
  return give_handle(found, __func__, device);
}

/* ---- What it is ----------------------------------------------------------------------------------------------------------------- */

static int get_text(void *device, const char *call, size_t offset, char *out, unsigned length) {
  struct gpu *gpu = gpu_of(device);
  if (gpu == NULL) return INVALID_ARGUMENT;
  int code = enter(gpu, call);
  if (code == SUCCESS) code = give_text((const char *)gpu + offset, out, length);
  return leave(gpu, call, code, 0);
}

static int mig_text(void *device, size_t offset, char *out, unsigned length) {
  pthread_mutex_lock(&mutex);
  const struct mig *mig = mig_of(device);
  const int code = mig == NULL ? INVALID_ARGUMENT : give_text((const char *)mig + offset, out, length);
  pthread_mutex_unlock(&mutex);
  return code;
}

int nvmlDeviceGetName(void *device, char *name, unsigned length) {
  if (gpu_of(device) == NULL) return mig_text(device, offsetof(struct mig, name), name, length);
  return get_text(device, __func__, offsetof(struct gpu, name), name, length);
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
  if (gpu_of(device) == NULL) return mig_text(device, offsetof(struct mig, uuid), uuid, length);
  return get_text(device, __func__, offsetof(struct gpu, uuid), uuid, length);
}

int nvmlDeviceGetSerial(void *device, char *serial, unsigned length) {
  return get_text(device, __func__, offsetof(struct gpu, serial), serial, length);
}

int nvmlDeviceGetVbiosVersion(void *device, char *version, unsigned length) {
  return get_text(device, __func__, offsetof(struct gpu, vbios), version, length);
}

int nvmlDeviceGetPciInfo_v3(void *device, nvmlPciInfo_t *info) {
  struct gpu *gpu = gpu_of(device);
  if (gpu == NULL || info == NULL) return INVALID_ARGUMENT;
  unsigned at[4];
  int code = enter(gpu, __func__);
  if (code == SUCCESS && !parse_pci(gpu->pci, at)) code = UNKNOWN;
  if (code == SUCCESS) {
    memset(info, 0, sizeof *info);
    info->domain = at[0];
    info->bus = at[1];
    info->device = at[2];
    snprintf(info->busId, sizeof info->busId, "%08X:%02X:%02X.%X", at[0], at[1] & 0xff, at[2] & 0x1f, at[3] & 7);
    snprintf(info->busIdLegacy, sizeof info->busIdLegacy, "%04X:%02X:%02X.%X", at[0] & 0xffff, at[1] & 0xff, at[2] & 0x1f, at[3] & 7);
  }
  return leave(gpu, __func__, code, 0);
}

int nvmlDeviceGetArchitecture(void *device, unsigned *architecture) { return get32(device, __func__, "arch", architecture); }

/* ---- Getters ------------------------------------------------------------------------------------------------------------------- */

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius) {
  return sensor != 0 ? INVALID_ARGUMENT : get32(device, __func__, "temperature", celsius);
}

int nvmlDeviceGetTemperatureThreshold(void *device, int threshold, unsigned *celsius) {
  char key[40];
  return get32(device, __func__, key_of(key, "threshold.%d", threshold), celsius);
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) { return get32(device, __func__, "power", milliwatts); }
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *mj) { return get64(device, __func__, "energy", mj); }
int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *mw) { return get32(device, __func__, "power_limit", mw); }
int nvmlDeviceGetPowerManagementDefaultLimit(void *device, unsigned *mw) {
  return get32(device, __func__, "power_limit.default", mw);
}

int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *mw) {
  unsigned limit = 0;
  const int code = get32(device, __func__, "power_limit.enforced", mw);
  if (code == SUCCESS && get32(device, __func__, "power_limit", &limit) == SUCCESS && limit < *mw) *mw = limit;
  return code;
}

int nvmlDeviceGetPowerManagementLimitConstraints(void *device, unsigned *lowest, unsigned *highest) {
  const int code = get32(device, __func__, "power_limit.min", lowest);
  return code != SUCCESS ? code : get32(device, __func__, "power_limit.max", highest);
}

/* A clock that was locked stays within. */
int nvmlDeviceGetClockInfo(void *device, int clock, unsigned *megahertz) {
  char key[40];
  const int code = get32(device, __func__, key_of(key, "clock.%d", clock), megahertz);
  if (code != SUCCESS || clock == 3) return code;
  pthread_mutex_lock(&mutex);
  const struct stored *low = stored_of(index_of(device), clock == 2 ? "memory_lock.min" : "lock.min");
  const struct stored *high = stored_of(index_of(device), clock == 2 ? "memory_lock.max" : "lock.max");
  if (high != NULL && *megahertz > high->number) *megahertz = (unsigned)high->number;
  if (low != NULL && *megahertz < low->number) *megahertz = (unsigned)low->number;
  pthread_mutex_unlock(&mutex);
  return code;
}

int nvmlDeviceGetMaxClockInfo(void *device, int clock, unsigned *megahertz) {
  char key[40];
  return get32(device, __func__, key_of(key, "clock_max.%d", clock), megahertz);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) {
  return get64(device, __func__, "reasons", reasons);
}

int nvmlDeviceGetPerformanceState(void *device, int *state) { return get_signed(device, __func__, "pstate", state); }

int nvmlDeviceGetViolationStatus(void *device, int policy, nvmlViolationTime_t *time) {
  char key[40];
  if (time == NULL) return INVALID_ARGUMENT;
  time->referenceTime = (unsigned long long)(now_ns(CLOCK_REALTIME) / 1000);
  return get64(device, __func__, key_of(key, "violation.%d", policy), &time->violationTime);
}

int nvmlDeviceGetUtilizationRates(void *device, nvmlUtilization_t *rates) {
  if (rates == NULL) return INVALID_ARGUMENT;
  const int code = get32(device, __func__, "utilization.gpu", &rates->gpu);
  return code != SUCCESS ? code : get32(device, __func__, "utilization.memory", &rates->memory);
}

/* The old call counts what is reserved as used. */
int nvmlDeviceGetMemoryInfo(void *device, nvmlMemory_t *memory) {
  unsigned long long reserved = 0;
  if (memory == NULL) return INVALID_ARGUMENT;
  if (gpu_of(device) == NULL) {
    pthread_mutex_lock(&mutex);
    const struct mig *mig = mig_of(device);
    if (mig != NULL) *memory = (nvmlMemory_t){mig->bytes, 0, mig->bytes};
    pthread_mutex_unlock(&mutex);
    return mig == NULL ? INVALID_ARGUMENT : SUCCESS;
  }
  int code = get64(device, __func__, "memory.total", &memory->total);
  if (code == SUCCESS) code = get64(device, __func__, "memory.free", &memory->free);
  if (code == SUCCESS) code = get64(device, __func__, "memory.used", &memory->used);
  if (code == SUCCESS && get64(device, __func__, "memory.reserved", &reserved) == SUCCESS) memory->used += reserved;
  return code;
}

int nvmlDeviceGetNumFans(void *device, unsigned *count) { return get32(device, __func__, "fans", count); }
int nvmlDeviceGetFanSpeed(void *device, unsigned *percent) { return get32(device, __func__, "fan.0", percent); }
int nvmlDeviceGetFanSpeed_v2(void *device, unsigned fan, unsigned *percent) {
  char key[40];
  return get32(device, __func__, key_of(key, "fan.%u", fan), percent);
}

int nvmlDeviceGetTotalEccErrors(void *device, int error, int counter, unsigned long long *count) {
  char key[40];
  return get64(device, __func__, key_of(key, "ecc.%d.%d", error, counter), count);
}

int nvmlDeviceGetMemoryErrorCounter(void *device, int error, int counter, int location, unsigned long long *count) {
  char key[40];
  return get64(device, __func__, key_of(key, "ecc.%d.%d.%d", error, counter, location), count);
}

int nvmlDeviceGetRemappedRows(void *device, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failure) {
  int code = get32(device, __func__, "remapped.0", corrected);
  if (code == SUCCESS) code = get32(device, __func__, "remapped.1", uncorrected);
  if (code == SUCCESS) code = get32(device, __func__, "remapped.2", pending);
  return code != SUCCESS ? code : get32(device, __func__, "remapped.3", failure);
}

int nvmlDeviceGetRetiredPages(void *device, int cause, unsigned *pages, unsigned long long *addresses) {
  char key[40];
  unsigned count = 0;
  if (pages == NULL) return INVALID_ARGUMENT;
  const int code = get32(device, __func__, key_of(key, "retired.%d", cause), &count);
  if (code != SUCCESS) return code;
  const unsigned room = *pages;
  *pages = count;
  if (count > 0 && (addresses == NULL || room < count)) return INSUFFICIENT_SIZE;
  for (unsigned i = 0; i < count; ++i) addresses[i] = 0x1000ull * i;
  return SUCCESS;
}

int nvmlDeviceGetRetiredPagesPendingStatus(void *device, int *pending) {
  return get_signed(device, __func__, "retired_pending", pending);
}

int nvmlDeviceGetCurrPcieLinkGeneration(void *device, unsigned *value) { return get32(device, __func__, "pcie.gen", value); }
int nvmlDeviceGetCurrPcieLinkWidth(void *device, unsigned *value) { return get32(device, __func__, "pcie.width", value); }
int nvmlDeviceGetMaxPcieLinkGeneration(void *device, unsigned *value) { return get32(device, __func__, "pcie.gen_max", value); }
int nvmlDeviceGetMaxPcieLinkWidth(void *device, unsigned *value) { return get32(device, __func__, "pcie.width_max", value); }
int nvmlDeviceGetPcieReplayCounter(void *device, unsigned *value) { return get32(device, __func__, "pcie.replays", value); }

int nvmlDeviceGetNvLinkState(void *device, unsigned link, int *active) {
  char key[40];
  return get_signed(device, __func__, key_of(key, "link.%u", link), active);
}

int nvmlDeviceGetNvLinkErrorCounter(void *device, unsigned link, int counter, unsigned long long *count) {
  char key[40];
  return get64(device, __func__, key_of(key, "link.%u.%d", link, counter), count);
}

int nvmlDeviceGetPersistenceMode(void *device, int *mode) { return get_signed(device, __func__, "persistence", mode); }

int nvmlDeviceGetEccMode(void *device, int *current, int *pending) {
  const int code = get_signed(device, __func__, "ecc_mode", current);
  if (code == SUCCESS && pending != NULL) *pending = *current;
  return code;
}

int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
  const int code = get32(device, __func__, "mig_mode", current);
  if (code == SUCCESS && pending != NULL) *pending = *current;
  return code;
}

/* One field: its rule, its value, its type. Unsigned int unless the script says otherwise or it is too large for that. */
static void fill_field(struct gpu *gpu, nvmlFieldValue_t *field) {
  char key[40];
  uint64_t number = 0, type = 0;
  field->timestamp = now_ns(CLOCK_REALTIME) / 1000;
  field->nvmlReturn = value_of(gpu, key_of(key, "field.%u", field->fieldId), &number);
  if (field->nvmlReturn != SUCCESS) return;
  const struct value *value = slot_of(gpu, key, 0);
  const int typed = value_of(gpu, key_of(key, "type.%u", field->fieldId), &type) == SUCCESS;
  if (!typed) type = value->real ? 0 : (int64_t)number < 0 && number != NOT_AVAILABLE ? 5 : number > UINT32_MAX ? 3 : 1;
  field->valueType = (int)type;
  field->value.ullVal = number;
  if (type == 0) field->value.dVal = value->real ? value->decimal : (double)(int64_t)number;
}

int nvmlDeviceGetFieldValues(void *device, int count, nvmlFieldValue_t *values) {
  struct gpu *gpu = gpu_of(device);
  if (gpu == NULL || values == NULL || count <= 0) return INVALID_ARGUMENT;
  const int code = enter(gpu, __func__);
  for (int i = 0; i < count && code == SUCCESS; ++i) fill_field(gpu, &values[i]);
  return leave(gpu, __func__, code, 0);
}

/* Under the mutex. */
static int list_processes(struct gpu *gpu, int compute, unsigned *count, nvmlProcessInfo_t *infos) {
  uint64_t flood = 0;
  unsigned there = 0, filled = 0;
  if (count == NULL) return INVALID_ARGUMENT;
  if (value_of(gpu, "process_flood", &flood) != SUCCESS || !compute) flood = 0;
  for (int i = 0; i < gpu->process_count; ++i) there += (unsigned)(gpu->processes[i].compute == compute);
  const unsigned total = there + (unsigned)flood + (compute ? gpu->grown : 0);
  if (compute && gpu->grown < MAX_GROWTH) gpu->grown += gpu->grow;
  const unsigned room = infos == NULL ? 0 : *count;
  *count = total;
  if (room < total) return INSUFFICIENT_SIZE;
  for (int i = 0; i < gpu->process_count; ++i) {
    const struct process *one = &gpu->processes[i];
    if (one->compute == compute) infos[filled++] = (nvmlProcessInfo_t){one->pid, one->bytes, NO_INSTANCE, NO_INSTANCE};
  }
  for (unsigned i = 0; filled < total; ++i) infos[filled++] = (nvmlProcessInfo_t){900000 + i, 1 << 20, NO_INSTANCE, NO_INSTANCE};
  return SUCCESS;
}

static int processes(void *device, const char *call, int compute, unsigned *count, nvmlProcessInfo_t *infos) {
  struct gpu *gpu = gpu_of(device);
  if (gpu == NULL) return INVALID_ARGUMENT;
  int code = enter(gpu, call);
  if (code == SUCCESS) code = list_processes(gpu, compute, count, infos);
  return leave(gpu, call, code, 0);
}

int nvmlDeviceGetComputeRunningProcesses_v2(void *device, unsigned *count, nvmlProcessInfo_t *infos) {
  return processes(device, __func__, 1, count, infos);
}
int nvmlDeviceGetGraphicsRunningProcesses_v2(void *device, unsigned *count, nvmlProcessInfo_t *infos) {
  return processes(device, __func__, 0, count, infos);
}

/* ---- Newer getters -------------------------------------------------------------------------------------------------------------- */

#ifndef OLD
int nvmlDeviceGetTemperatureV(void *device, nvmlTemperature_t *temperature) {
  if (temperature == NULL) return INVALID_ARGUMENT;
  if (temperature->version != 16777228) return ARGUMENT_VERSION_MISMATCH;
  if (temperature->sensorType != 0) return INVALID_ARGUMENT;
  return get_signed(device, __func__, "temperature", &temperature->temperature);
}

int nvmlDeviceGetMarginTemperature(void *device, nvmlMarginTemperature_t *margin) {
  if (margin == NULL) return INVALID_ARGUMENT;
  if (margin->version != 16777224) return ARGUMENT_VERSION_MISMATCH;
  return get_signed(device, __func__, "margin", &margin->marginTemperature);
}

int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *reasons) {
  return get64(device, __func__, "reasons", reasons);
}

int nvmlDeviceGetMemoryInfo_v2(void *device, nvmlMemory_v2_t *memory) {
  if (memory == NULL) return INVALID_ARGUMENT;
  if (memory->version != 33554472) return ARGUMENT_VERSION_MISMATCH;
  int code = get64(device, __func__, "memory.total", &memory->total);
  if (code == SUCCESS) code = get64(device, __func__, "memory.free", &memory->free);
  if (code == SUCCESS) code = get64(device, __func__, "memory.reserved", &memory->reserved);
  return code != SUCCESS ? code : get64(device, __func__, "memory.used", &memory->used);
}

int nvmlDeviceGetFanSpeedRPM(void *device, nvmlFanSpeedInfo_t *speed) {
  char key[40];
  if (speed == NULL) return INVALID_ARGUMENT;
  if (speed->version != 16777228) return ARGUMENT_VERSION_MISMATCH;
  return get32(device, __func__, key_of(key, "fan_rpm.%u", speed->fan), &speed->speed);
}

int nvmlDeviceGetSramEccErrorStatus(void *device, nvmlEccSramErrorStatus_t *status) {
  if (status == NULL) return INVALID_ARGUMENT;
  if (status->version != (sizeof *status | 1u << 24)) return ARGUMENT_VERSION_MISMATCH;
  return get32(device, __func__, "sram_threshold", &status->bThresholdExceeded);
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, nvmlProcessInfo_t *infos) {
  return processes(device, __func__, 1, count, infos);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, nvmlProcessInfo_t *infos) {
  return processes(device, __func__, 0, count, infos);
}

int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) { return get32(device, __func__, "mig_max", count); }

int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **instance) {
  struct gpu *gpu = gpu_of(device);
  if (gpu == NULL || instance == NULL) return INVALID_ARGUMENT;
  int code = enter(gpu, __func__);
  if (code == SUCCESS && index >= (unsigned)gpu->mig_count) code = NOT_FOUND;
  if (code == SUCCESS) *instance = &gpu->migs[index];
  return leave(gpu, __func__, code, 0);
}

static int mig_number(void *device, size_t offset, unsigned *out) {
  if (out == NULL || gpu_of(device) != NULL) return INVALID_ARGUMENT;
  pthread_mutex_lock(&mutex);
  const struct mig *mig = mig_of(device);
  if (mig != NULL) memcpy(out, (const char *)mig + offset, sizeof *out);
  pthread_mutex_unlock(&mutex);
  return mig == NULL ? INVALID_ARGUMENT : SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(void *device, unsigned *id) { return mig_number(device, offsetof(struct mig, gi), id); }
int nvmlDeviceGetComputeInstanceId(void *device, unsigned *id) { return mig_number(device, offsetof(struct mig, ci), id); }
#endif

/* ---- Setters ------------------------------------------------------------------------------------------------------------------- */

struct range {
  uint64_t low, high;
};

/* Under the mutex. SUCCESS and 0 in *stick: it says that it did, and did not. */
static int admit(struct gpu *gpu, const char *name, struct range range, uint64_t *wanted, int *stick) {
  const struct rule *rule = rule_of(gpu->sets, gpu->set_count, name);
  const int how = rule == NULL ? 0 : rule->code;
  *stick = how != -1;
  if (how > 0) return how;
  if (*wanted >= range.low && *wanted <= range.high) return SUCCESS;
  if (how != -2) return INVALID_ARGUMENT;
  *wanted = *wanted < range.low ? range.low : range.high;
  return SUCCESS;
}

static int set_power_limit(void *device, const char *call, uint64_t wanted) {
  struct gpu *gpu = gpu_of(device);
  if (gpu == NULL) return INVALID_ARGUMENT;
  struct range range = {0, UINT32_MAX};
  uint64_t before = 0;
  int stick = 0, code = enter(gpu, call);
  if (code == SUCCESS) code = value_of(gpu, "power_limit", &before);
  if (code == SUCCESS) code = value_of(gpu, "power_limit.min", &range.low);
  if (code == SUCCESS) code = value_of(gpu, "power_limit.max", &range.high);
  if (code == SUCCESS) code = admit(gpu, "power_limit", range, &wanted, &stick);
  if (code == SUCCESS && stick) keep(index_of(gpu), "power_limit", wanted);
  return leave(gpu, call, code, 1);
}

int nvmlDeviceSetPowerManagementLimit(void *device, unsigned milliwatts) { return set_power_limit(device, __func__, milliwatts); }

#ifndef OLD
int nvmlDeviceSetPowerManagementLimit_v2(void *device, nvmlPowerValue_v2_t *value) {
  if (value == NULL) return INVALID_ARGUMENT;
  if (value->version != 33554444) return ARGUMENT_VERSION_MISMATCH;
  return value->powerScope != 0 ? NOT_SUPPORTED : set_power_limit(device, __func__, value->powerValueMw);
}
#endif

static int lock_clocks(void *device, const char *call, const char *name, int clock, uint64_t low, uint64_t high) {
  char key[40];
  const char *prefix = clock == 2 ? "memory_lock" : "lock";
  struct gpu *gpu = gpu_of(device);
  if (gpu == NULL || low > high) return INVALID_ARGUMENT;
  struct range range = {0, 0};
  int stick = 0, code = enter(gpu, call);
  if (code == SUCCESS) code = value_of(gpu, key_of(key, "clock_max.%d", clock), &range.high);
  if (code == SUCCESS) code = admit(gpu, name, range, &low, &stick);
  if (code == SUCCESS) code = admit(gpu, name, range, &high, &stick);
  if (code == SUCCESS && stick) {
    keep(index_of(gpu), key_of(key, "%s.min", prefix), low);
    keep(index_of(gpu), key_of(key, "%s.max", prefix), high);
  }
  return leave(gpu, call, code, 1);
}

static int unlock_clocks(void *device, const char *call, const char *name, const char *prefix) {
  struct gpu *gpu = gpu_of(device);
  if (gpu == NULL) return INVALID_ARGUMENT;
  uint64_t nothing = 0;
  const struct range range = {0, 0};
  int stick = 0, code = enter(gpu, call);
  if (code == SUCCESS) code = admit(gpu, name, range, &nothing, &stick);
  if (code == SUCCESS && stick) forget(index_of(gpu), prefix);
  return leave(gpu, call, code, 1);
}

int nvmlDeviceSetGpuLockedClocks(void *device, unsigned lowest, unsigned highest) {
  return lock_clocks(device, __func__, "locked_clocks", 0, lowest, highest);
}
int nvmlDeviceResetGpuLockedClocks(void *device) { return unlock_clocks(device, __func__, "locked_clocks", "lock."); }
int nvmlDeviceSetMemoryLockedClocks(void *device, unsigned lowest, unsigned highest) {
  return lock_clocks(device, __func__, "memory_locked_clocks", 2, lowest, highest);
}
int nvmlDeviceResetMemoryLockedClocks(void *device) {
  return unlock_clocks(device, __func__, "memory_locked_clocks", "memory_lock.");
}

static int set_plain(void *device, const char *call, const char *name, const char *key, struct range range, uint64_t wanted) {
  struct gpu *gpu = gpu_of(device);
  if (gpu == NULL) return INVALID_ARGUMENT;
  uint64_t before = 0;
  int stick = 0, code = enter(gpu, call);
  if (code == SUCCESS) code = value_of(gpu, key, &before);
  if (code == SUCCESS) code = admit(gpu, name, range, &wanted, &stick);
  if (code == SUCCESS && stick) keep(index_of(gpu), key, wanted);
  return leave(gpu, call, code, 1);
}

int nvmlDeviceSetPersistenceMode(void *device, int mode) {
  const struct range range = {0, 1};
  return set_plain(device, __func__, "persistence", "persistence", range, (uint64_t)mode);
}

int nvmlDeviceSetFanSpeed_v2(void *device, unsigned fan, unsigned percent) {
  char key[40];
  const struct range range = {0, 100};
  return set_plain(device, __func__, "fan", key_of(key, "fan.%u", fan), range, percent);
}

int nvmlDeviceSetDefaultFanSpeed_v2(void *device, unsigned fan) {
  char key[40];
  return unlock_clocks(device, __func__, "fan", key_of(key, "fan.%u", fan));
}

/* ---- Events --------------------------------------------------------------------------------------------------------------------- */

static struct event_set *set_of(void *handle) {
  for (int i = 0; i < MAX_SETS; ++i) {
    if (handle == &sets[i] && sets[i].used) return &sets[i];
  }
  return NULL;
}

/* The directory, because a script is replaced as often as it is written. */
static int watch_script(void) {
  const char *path = getenv("SKOS_NVML_SCRIPT");
  char directory[512];
  const int watch = path == NULL ? -1 : inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (watch < 0) return -1;
  copy(directory, sizeof directory, path);
  char *slash = strrchr(directory, '/');
  if (slash == NULL) copy(directory, sizeof directory, ".");
  else slash[slash == directory] = '\0';
  if (inotify_add_watch(watch, directory, IN_CLOSE_WRITE | IN_MOVE | IN_DELETE | IN_ONLYDIR) >= 0) return watch;
  close(watch);
  return -1;
}

int nvmlEventSetCreate(void **handle) {
  int code = handle == NULL ? INVALID_ARGUMENT : SUCCESS;
  const int entered = enter(&library, __func__);
  struct event_set *set = NULL;
  for (int i = 0; i < MAX_SETS && set == NULL; ++i) {
    if (!sets[i].used) set = &sets[i];
  }
  if (code == SUCCESS) code = entered;
  if (code == SUCCESS && set == NULL) code = UNKNOWN;
  if (code == SUCCESS) {
    memset(set, 0, sizeof *set);
    set->used = 1;
    set->watch = watch_script();
    *handle = set;
  }
  return leave(&library, __func__, code, 1);
}

int nvmlDeviceGetSupportedEventTypes(void *device, unsigned long long *types) { return get64(device, __func__, "event_types", types); }

int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *handle) {
  struct gpu *gpu = gpu_of(device);
  if (gpu == NULL) return INVALID_ARGUMENT;
  uint64_t supported = 0;
  int code = enter(gpu, __func__);
  struct event_set *set = set_of(handle);
  if (code == SUCCESS && set == NULL) code = INVALID_ARGUMENT;
  if (code == SUCCESS) code = value_of(gpu, "event_types", &supported);
  if (code == SUCCESS && (types & ~supported) != 0) code = NOT_SUPPORTED;
  if (code == SUCCESS) {
    set->types[index_of(gpu)] |= types;
    set->since_ns[index_of(gpu)] = now_ns(CLOCK_REALTIME);
    set->script[index_of(gpu)] = script_stat;
  }
  return leave(gpu, __func__, code, 1);
}

/* How often this set has had the event, as a place to count it. NULL: no room. */
static long *seen_of(struct event_set *set, uint64_t hash) {
  for (int i = 0; i < set->seen_count; ++i) {
    if (set->seen[i].hash == hash) return &set->seen[i].times;
  }
  if (set->seen_count == MAX_SEEN) return NULL;
  set->seen[set->seen_count].hash = hash;
  set->seen[set->seen_count].times = 0;
  return &set->seen[set->seen_count++].times;
}

static int is_due(const struct event_set *set, const struct event *event, int64_t now) {
  const int64_t since = set->since_ns[event->gpu];
  if ((set->types[event->gpu] & event->type) == 0) return 0;
  if (event->after_ms >= 0) return now >= since + event->after_ms * 1000000;
  const int64_t at = script_ns + event->at_ms * 1000000;
  /* A time of modification is up to 10 ms old, so the two clocks are compared only within one script. */
  return now >= at && (!same_file(&script_stat, &set->script[event->gpu]) || at >= since);
}

/* Under the mutex. TIMEOUT: nothing now. */
static int take_event(struct event_set *set, nvmlEventData_t *data, int64_t now) {
  for (int i = 0; i < event_count; ++i) {
    if (!is_due(set, &events[i], now)) continue;
    long *times = seen_of(set, events[i].hash);
    if (times == NULL || *times >= events[i].times) continue;
    ++*times;
    *data = (nvmlEventData_t){&gpus[events[i].gpu], events[i].type, events[i].data, events[i].gi, events[i].ci};
    return events[i].lost ? GPU_IS_LOST : SUCCESS;
  }
  for (int i = 0; i < MAX_GPUS; ++i) {
    const struct rule *rule = rule_of(gpus[i].returns, gpus[i].return_count, "nvmlEventSetWait_v2");
    if (set->types[i] == 0) continue;
    if (rule != NULL) return rule->code;
    if (is_lost(&gpus[i], "nvmlEventSetWait_v2")) return GPU_IS_LOST;
  }
  return TIMEOUT;
}

/* Whether the watch has something about the script itself; a log or a state in its directory is written all the time. */
static int script_changed(int watch) {
  const char *path = getenv("SKOS_NVML_SCRIPT");
  const char *slash = path == NULL ? NULL : strrchr(path, '/');
  const char *name = slash == NULL ? path : slash + 1;
  char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
  int changed = 0;
  for (ssize_t length; (length = read(watch, buffer, sizeof buffer)) > 0;) {
    for (char *at = buffer; at < buffer + length;) {
      const struct inotify_event *event = (const struct inotify_event *)at;
      if ((event->mask & (IN_Q_OVERFLOW | IN_IGNORED)) != 0) changed = 1;
      else if (name != NULL && event->len > 0 && strcmp(event->name, name) == 0) changed = 1;
      at += sizeof *event + event->len;
    }
  }
  return changed;
}

/* Under the mutex: when this set may have an event that it had not at `now`, without a change of the script. CLOCK_MONOTONIC. */
static int64_t next_due_ns(const struct event_set *set, int64_t now, int64_t end) {
  const int64_t monotonic = now_ns(CLOCK_MONOTONIC);
  int64_t next = end;
  for (int i = 0; i < event_count; ++i) {
    const int64_t from = events[i].after_ms >= 0 ? set->since_ns[events[i].gpu] : script_ns;
    const int64_t ms = events[i].after_ms >= 0 ? events[i].after_ms : events[i].at_ms;
    const int64_t left = from + ms * 1000000 - now;
    if (left > 0 && monotonic + left < next) next = monotonic + left;
  }
  for (int i = 0; i < MAX_GPUS; ++i) {
    /* The calls of other threads bring it about. */
    if (gpus[i].lost && set->types[i] != 0 && next > monotonic + POLL_NS) next = monotonic + POLL_NS;
  }
  return next;
}

/* A driver blocks here, and costs nothing: so does this, until the script changes. */
static void wait_for_script(int watch, int64_t until_ns) {
  for (;;) {
    const int64_t left = until_ns - now_ns(CLOCK_MONOTONIC);
    if (left <= 0) return;
    /* Without a watch (too many are open) it looks from time to time. */
    const int64_t pause = watch < 0 && left > POLL_NS ? POLL_NS : left;
    const struct timespec timeout = {pause / NS_PER_S, pause % NS_PER_S};
    struct pollfd look = {watch, POLLIN, 0};
    if (ppoll(&look, 1, &timeout, NULL) > 0 && !script_changed(watch)) continue;
    return;
  }
}

int nvmlEventSetWait_v2(void *handle, nvmlEventData_t *data, unsigned timeout_ms) {
  const int64_t end = now_ns(CLOCK_MONOTONIC) + timeout_ms * 1000000LL;
  for (;;) {
    int code = enter(&library, __func__);
    if (code != SUCCESS) return leave(&library, __func__, code, 0);
    struct event_set *set = set_of(handle);
    if (set == NULL || data == NULL) code = INVALID_ARGUMENT;
    const int64_t now = now_ns(CLOCK_REALTIME);
    if (code == SUCCESS) code = take_event(set, data, now);
    const int64_t until = code == TIMEOUT ? next_due_ns(set, now, end) : end;
    const int watch = code == TIMEOUT ? set->watch : -1;
    leave(&library, __func__, code, 0);
    if (code != TIMEOUT || now_ns(CLOCK_MONOTONIC) >= end) return code;
    wait_for_script(watch, until);
  }
}

int nvmlEventSetFree(void *handle) {
  int code = enter(&library, __func__);
  struct event_set *set = set_of(handle);
  if (code == SUCCESS && set == NULL) code = INVALID_ARGUMENT;
  if (set != NULL) {
    set->used = 0;
    if (set->watch >= 0) close(set->watch);
  }
  return leave(&library, __func__, code, 1);
}
