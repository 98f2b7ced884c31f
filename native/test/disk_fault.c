/*
 * A disk that fails, for tests: loaded with LD_PRELOAD into a program that runs unchanged, it stands between that program and
 * the files below one directory.
 *
 * DISK_FAULT_ROOT     the directory, absolute and without symbolic links; only absolute paths below it are looked at.
 * DISK_FAULT_DURABLE  where the durable state is kept: `tree` in it is what a power cut would leave. Absent: no such model.
 *                     Begins as a copy of the root, which is whole when `ready` is there beside it; so the process that is
 *                     preloaded must be the only one that writes there.
 * DISK_FAULT_CONTROL  a file of 16 int32, mapped, which the test may write while the program runs. Absent: no faults.
 *
 * Power cuts. The program works on the root as on any directory, so that it reads what it wrote, by read() or by mmap. Beside
 * it the durable tree follows:
 * - fsync and fdatasync of a file carry what was written or cut off since over to its durable copy, and make the name that
 *   the file has now durable, with its directories. POSIX promises less, but ext4, xfs and btrfs do that, and LevelDB
 *   relies on it: it makes a new log without a look at the directory.
 * - creating, renaming and removing wait in one list. fsync of a directory carries over the list up to the last entry of that
 *   directory: a journal keeps the order.
 * - mkdir, rmdir and the renaming of a directory are durable at once: generous, and the only thing that is.
 * - with kWritebackPermille the kernel writes back at its own pace: after a write, now and then, some sectors of 512 bytes of
 *   what is not synced and a first part of the list arrive by themselves. That makes torn writes, files with holes
 *   of zeros, and names whose content has not arrived.
 * Killed at any moment, also in the middle of a sync, the durable tree is a state that a disk may be in. A file is its
 * bytes and its name; owner, mode and times are not modelled. Files that are written by mmap, by copy_file_range or through a
 * hard link are not followed.
 *
 * Faults. Of the operations in kWhat, the first kSkip pass, the next kCount (-1: all) fail with kErrno, each with a chance of
 * kPermille; with kShort a write takes half of its bytes instead. An fsync that fails so loses what it was to
 * carry over, as the kernel does: a second one says nothing of it. kSlowMs delays each sync. At the kKillAt-th operation
 * that changes anything the process kills itself, half of a write written.
 *
 * LevelDB writes through stdio, whose write does not come back to write(): files that are opened for writing by fopen() get
 * a stream with callbacks. One lock guards everything; any thread.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Words of the control file. */
enum {
  kWhat,      /* bits: 1 write, 2 sync, 4 open for writing, 8 rename, 16 unlink, 32 truncate */
  kErrno,
  kSkip,
  kCount,
  kPermille,  /* 0 means 1000 */
  kShort,
  kSlowMs,
  kKillAt,
  kWritebackPermille,
  kSeed,
  kOperations,  /* written here: operations seen, and faults made */
  kFaults,
  kSyncs,
  kWords = 16,
};
enum { kWrite = 1, kSync = 2, kOpen = 4, kRename = 8, kUnlink = 16, kTruncate = 32 };

enum { kMaxFds = 4096, kMaxRanges = 1024, kSector = 512 };

typedef struct { off_t from, to; } Range;

/* A file, by whatever names. Never freed: a test's process makes some thousands. */
typedef struct File {
  struct File *next;
  char object[PATH_MAX]; /* durable bytes */
  char name[PATH_MAX];   /* present name below the root; "" when it has none */
  bool is_directory;
  bool truncated; /* since the last sync */
  off_t size;     /* as far as it was seen */
  int ranges;
  Range range[kMaxRanges];
} File;

typedef enum { kVoid, kCreated, kRenamed, kUnlinked } Kind;
typedef struct Pending {
  struct Pending *next;
  Kind kind;
  File *file;
  char path[PATH_MAX], to[PATH_MAX]; /* relative to the root */
} Pending;

typedef struct { int fd; } Stream;

static char root[PATH_MAX], durable[PATH_MAX];
static size_t root_length;
static bool follows;
static volatile int32_t *control;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static File *files;
static Pending *pending, **pending_end = &pending;
static unsigned objects;
static uint64_t random_state = 88172645463325252ull;
static File *file_of[kMaxFds]; /* NULL: not ours */
static struct { dev_t device; ino_t inode; } identity_of[kMaxFds];
static struct { FILE *stream; int fd; } streams[256];

static int (*real_open)(const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_ftruncate)(int, off_t);
static int (*real_mkdir)(const char *, mode_t);
static int (*real_rmdir)(const char *);
static FILE *(*real_fopen)(const char *, const char *);
static int (*real_fileno)(FILE *);
static int (*real_fclose)(FILE *);

static void die(const char *what) {
  dprintf(2, "disk_fault: %s: %s\n", what, strerror(errno));
  abort();
}

static void *symbol(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (found == NULL) die(name);
  return found;
}

static uint32_t chance(uint32_t below) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (uint32_t)(random_state >> 33) % below;
}

/* ---- The durable tree ---- */

/* Two texts, one path. */
static void join(char *out, const char *a, const char *b) {
  if (snprintf(out, PATH_MAX, "%s%s", a, b) >= PATH_MAX) die("a path is too long");
}

static void tree_path(char *out, const char *relative) {
  char base[PATH_MAX];
  join(base, durable, "/tree");
  join(out, base, relative);
}

/* "/db/CURRENT" of an absolute path below the root, "" for the root itself, NULL for anything else. */
static const char *below(const char *path) {
  if (root_length == 0 || path == NULL || strncmp(path, root, root_length) != 0) return NULL;
  if (path[root_length] != '\0' && path[root_length] != '/') return NULL;
  return path + root_length;
}

static bool is_in(const char *path, const char *directory) {
  const size_t length = strlen(directory);
  return strncmp(path, directory, length) == 0 && path[length] == '/' && strchr(path + length + 1, '/') == NULL;
}

static File *find(const char *name) {
  for (File *file = files; file != NULL; file = file->next)
    if (file->name[0] != '\0' && strcmp(file->name, name) == 0) return file;
  return NULL;
}

static File *new_file(const char *name) {
  File *file = calloc(1, sizeof *file);
  if (file == NULL) die("calloc");
  char number[32];
  snprintf(number, sizeof number, "/objects/%u", objects++);
  join(file->object, durable, number);
  join(file->name, name, "");
  file->next = files;
  files = file;
  if (follows) {
    const int fd = real_open(file->object, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) die(file->object);
    real_close(fd);
  }
  return file;
}

static void add_pending(Kind kind, File *file, const char *path, const char *to) {
  if (!follows) return;
  Pending *entry = calloc(1, sizeof *entry);
  if (entry == NULL) die("calloc");
  entry->kind = kind;
  entry->file = file;
  join(entry->path, path, "");
  join(entry->to, to, "");
  *pending_end = entry;
  pending_end = &entry->next;
}

/* Gives the object this name, in one step. */
static void place(File *file, const char *name) {
  char temporary[PATH_MAX], path[PATH_MAX];
  join(temporary, durable, "/placing");
  tree_path(path, name);
  real_unlink(temporary);
  if (link(file->object, temporary) != 0) die("link");
  /* Where its directory was moved away meanwhile, so was what is in it. */
  if (real_rename(temporary, path) != 0 && errno != ENOENT) die("rename");
  real_unlink(temporary); /* rename() of two names of one file does nothing. */
}

static bool is_placed(File *file, const char *name) {
  char path[PATH_MAX];
  struct stat a, b;
  tree_path(path, name);
  return stat(path, &a) == 0 && stat(file->object, &b) == 0 && a.st_ino == b.st_ino;
}

static void arrive(Pending *entry) {
  char path[PATH_MAX], to[PATH_MAX];
  tree_path(path, entry->path);
  if (entry->kind == kCreated) place(entry->file, entry->path);
  if (entry->kind == kUnlinked) real_unlink(path);
  if (entry->kind == kRenamed) {
    tree_path(to, entry->to);
    if (is_placed(entry->file, entry->path)) real_rename(path, to);
    else place(entry->file, entry->to);
  }
}

/* The first `count` entries of the list. */
static void arrive_first(int count) {
  while (count-- > 0 && pending != NULL) {
    Pending *entry = pending;
    arrive(entry);
    pending = entry->next;
    if (pending == NULL) pending_end = &pending;
    free(entry);
  }
}

static void sync_directory(const char *name) {
  int position = 0, last = 0;
  for (Pending *entry = pending; entry != NULL; entry = entry->next) {
    position++;
    if (entry->kind == kVoid) continue;
    if (is_in(entry->path, name) || (entry->to[0] != '\0' && is_in(entry->to, name))) last = position;
  }
  arrive_first(last);
}

static void sync_name(File *file) {
  bool is_new = false;
  for (Pending *entry = pending; entry != NULL; entry = entry->next)
    if (entry->kind != kVoid && entry->kind != kUnlinked && entry->file == file) is_new = true;
  if (!is_new || file->name[0] == '\0') return;
  for (Pending *entry = pending; entry != NULL; entry = entry->next) {
    if (entry->kind == kVoid) continue;
    /* A name that the file had in between goes with the step that took it. */
    if (entry->kind == kRenamed && entry->file == file && is_placed(file, entry->path)) arrive(entry);
    const char *affected = entry->kind == kRenamed ? entry->to : entry->path;
    if (entry->file == file || strcmp(affected, file->name) == 0) entry->kind = kVoid;
  }
  place(file, file->name);
}

static void dirty(File *file, off_t from, off_t to) {
  if (to > file->size) file->size = to;
  if (!follows || from >= to) return;
  if (file->ranges > 0) {
    Range *last = &file->range[file->ranges - 1];
    if (from >= last->from && from <= last->to) {
      if (to > last->to) last->to = to;
      return;
    }
  }
  if (file->ranges == kMaxRanges) {
    Range all = {from, to};
    for (int i = 0; i < file->ranges; i++) {
      if (file->range[i].from < all.from) all.from = file->range[i].from;
      if (file->range[i].to > all.to) all.to = file->range[i].to;
    }
    file->range[0] = all;
    file->ranges = 1;
    return;
  }
  file->range[file->ranges++] = (Range){from, to};
}

static void copy_range(int from_fd, int to_fd, Range range) {
  static char buffer[65536];
  while (range.from < range.to) {
    const off_t left = range.to - range.from;
    const ssize_t n = pread(from_fd, buffer, left < (off_t)sizeof buffer ? (size_t)left : sizeof buffer, range.from);
    if (n <= 0) return; /* It was cut off since. */
    if (real_pwrite(to_fd, buffer, (size_t)n, range.from) != n) die("the durable copy");
    range.from += n;
  }
}

static int open_object(const File *file) {
  const int fd = real_open(file->object, O_RDWR | O_CLOEXEC);
  if (fd < 0) die(file->object);
  return fd;
}

/* The bytes as fsync carries them over. Reads through a descriptor of its own: the program's may be write-only. */
static void sync_bytes(File *file, int fd) {
  struct stat live;
  char self[64];
  snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
  const int from = real_open(self, O_RDONLY | O_CLOEXEC);
  if (from < 0 || fstat(from, &live) != 0) die("the live file");
  const int to = open_object(file);
  if (live.st_size > file->size) dirty(file, file->size, live.st_size);
  for (int i = 0; i < file->ranges; i++) copy_range(from, to, file->range[i]);
  if (file->truncated && real_ftruncate(to, live.st_size) != 0) die("ftruncate");
  file->truncated = false;
  file->ranges = 0;
  file->size = live.st_size;
  real_close(to);
  real_close(from);
}

static void write_back_sectors(File *file) {
  char path[PATH_MAX];
  join(path, root, file->name);
  const int from = real_open(path, O_RDONLY | O_CLOEXEC);
  if (from < 0) return;
  const int to = open_object(file);
  for (int i = 0; i < file->ranges; i++) {
    const Range range = file->range[i];
    for (off_t at = range.from; at < range.to;) {
      off_t end = (at / kSector + 1) * kSector;
      if (end > range.to) end = range.to;
      if (chance(2) == 0) copy_range(from, to, (Range){at, end});
      at = end;
    }
  }
  real_close(to);
  real_close(from);
}

/* What the kernel does by itself, now and then. */
static void write_back(void) {
  if (!follows || control == NULL || control[kWritebackPermille] == 0) return;
  if (chance(1000) >= (uint32_t)control[kWritebackPermille]) return;
  for (File *file = files; file != NULL; file = file->next)
    if (file->ranges > 0 && file->name[0] != '\0' && chance(2) == 0) write_back_sectors(file);
  int waiting = 0;
  for (Pending *entry = pending; entry != NULL; entry = entry->next) waiting++;
  if (waiting > 0) arrive_first((int)chance((uint32_t)waiting + 1));
}

static void copy_in(const char *relative) {
  char path[PATH_MAX], copy[PATH_MAX];
  join(path, root, relative);
  tree_path(copy, relative);
  if (real_mkdir(copy, 0700) != 0 && errno != EEXIST) die(copy);
  DIR *directory = opendir(path);
  if (directory == NULL) return;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    char slash[300], name[PATH_MAX], full[PATH_MAX];
    struct stat status;
    snprintf(slash, sizeof slash, "/%s", entry->d_name);
    join(name, relative, slash);
    join(full, root, name);
    if (lstat(full, &status) != 0) continue;
    if (S_ISDIR(status.st_mode)) copy_in(name);
    if (!S_ISREG(status.st_mode)) continue;
    File *file = new_file(name);
    const int from = real_open(full, O_RDONLY | O_CLOEXEC);
    const int to = open_object(file);
    if (from < 0) die(full);
    copy_range(from, to, (Range){0, status.st_size});
    file->size = status.st_size;
    real_close(from);
    real_close(to);
    place(file, name);
  }
  closedir(directory);
}

/* ---- Faults ---- */

static const char *text_of(const char *name) {
  const char *text = getenv(name);
  return text == NULL ? "" : text;
}

__attribute__((constructor)) static void begin(void) {
  real_open = symbol("open64");
  real_close = symbol("close");
  real_write = symbol("write");
  real_pwrite = symbol("pwrite64");
  real_writev = symbol("writev");
  real_pwritev = symbol("pwritev64");
  real_fsync = symbol("fsync");
  real_fdatasync = symbol("fdatasync");
  real_rename = symbol("rename");
  real_unlink = symbol("unlink");
  real_ftruncate = symbol("ftruncate64");
  real_mkdir = symbol("mkdir");
  real_rmdir = symbol("rmdir");
  real_fopen = symbol("fopen64");
  real_fileno = symbol("fileno");
  real_fclose = symbol("fclose");
  const char *mapped = text_of("DISK_FAULT_CONTROL");
  if (mapped[0] != '\0') {
    const int fd = real_open(mapped, O_RDWR | O_CLOEXEC);
    if (fd < 0) die(mapped);
    void *words = mmap(NULL, kWords * sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (words == MAP_FAILED) die("mmap");
    control = words;
    real_close(fd);
    random_state ^= (uint64_t)(uint32_t)control[kSeed] * 0x9e3779b97f4a7c15ull;
    for (int i = 0; i < 16; i++) chance(2);
  }
  join(durable, text_of("DISK_FAULT_DURABLE"), "");
  follows = durable[0] != '\0';
  join(root, text_of("DISK_FAULT_ROOT"), "");
  if (follows) {
    char path[PATH_MAX];
    join(path, durable, "/objects");
    if (real_mkdir(path, 0700) != 0) die(path);
    copy_in("");
    join(path, durable, "/ready"); /* Without it the copy is not whole, and the root is as it was. */
    const int fd = real_open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) die(path);
    real_close(fd);
  }
  root_length = strlen(root);
}

/* Counts an operation; at its time the process dies. Returns whether it dies now, for a write that is half done. */
static bool dies(void) {
  if (control == NULL) return false;
  const int32_t n = ++control[kOperations];
  return control[kKillAt] > 0 && n >= control[kKillAt];
}

static void end(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

static bool fails(int what) {
  if (control == NULL || (control[kWhat] & what) == 0) return false;
  if (control[kSkip] > 0) {
    control[kSkip]--;
    return false;
  }
  if (control[kCount] == 0) return false;
  if (control[kPermille] > 0 && chance(1000) >= (uint32_t)control[kPermille]) return false;
  if (control[kCount] > 0) control[kCount]--;
  control[kFaults]++;
  errno = control[kErrno];
  return true;
}

/*
 * libuv closes by syscall(), which nobody sees: a descriptor that was ours may be a socket by now, so that each is looked at again.
 */
static File *ours(int fd) {
  if (fd < 0 || fd >= kMaxFds || file_of[fd] == NULL) return NULL;
  const int error = errno;
  struct stat status;
  const bool same = fstat(fd, &status) == 0 && status.st_dev == identity_of[fd].device &&
                    status.st_ino == identity_of[fd].inode;
  errno = error;
  if (!same) file_of[fd] = NULL;
  return same ? file_of[fd] : NULL;
}

/* What a call is to write: its parts, and where; -1: at the descriptor's own place. */
typedef struct {
  int fd;
  const struct iovec *parts;
  int count;
  off_t at;
} Writing;

static ssize_t really_write(Writing w) {
  return w.at < 0 ? real_writev(w.fd, w.parts, w.count) : real_pwritev(w.fd, w.parts, w.count, w.at);
}

/* Half of the first part. */
static ssize_t write_half(Writing w) {
  const struct iovec half = {w.parts[0].iov_base, (w.parts[0].iov_len + 1) / 2};
  w.parts = &half;
  w.count = 1;
  return really_write(w);
}

static ssize_t modelled_write(File *file, Writing w) {
  pthread_mutex_lock(&lock);
  ssize_t n;
  const bool last = dies();
  if (fails(kWrite)) {
    n = control[kShort] ? write_half(w) : -1;
  } else {
    n = last ? write_half(w) : really_write(w);
  }
  const int error = errno;
  if (n > 0) {
    const off_t end_at = w.at < 0 ? lseek(w.fd, 0, SEEK_CUR) : w.at + n;
    dirty(file, end_at - n, end_at);
  }
  write_back();
  if (last) end();
  pthread_mutex_unlock(&lock);
  errno = error;
  return n;
}

static int modelled_sync(int fd, int (*real)(int)) {
  File *file = ours(fd);
  if (file == NULL) return real(fd);
  if (control != NULL && control[kSlowMs] > 0) {
    const struct timespec pause_for = {control[kSlowMs] / 1000, control[kSlowMs] % 1000 * 1000000L};
    nanosleep(&pause_for, NULL);
  }
  pthread_mutex_lock(&lock);
  int result = 0;
  if (dies()) end();
  if (fails(kSync)) {
    file->ranges = 0;
    result = -1;
  } else if (!follows) {
    result = real(fd);
  } else if (file->is_directory) {
    sync_directory(file->name);
  } else {
    sync_bytes(file, fd);
    sync_name(file);
  }
  if (result == 0 && control != NULL) control[kSyncs]++;
  const int error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

static int modelled_open(const char *path, int flags, mode_t mode) {
  const char *name = below(path);
  if (name == NULL) return real_open(path, flags, mode);
  const bool writes = (flags & O_ACCMODE) != O_RDONLY;
  pthread_mutex_lock(&lock);
  int fd = -1;
  if (!writes || !fails(kOpen)) fd = real_open(path, flags, mode);
  const int error = errno;
  struct stat status;
  if (fd >= 0 && fd < kMaxFds && fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))) {
    File *file = find(name);
    if (file == NULL && (S_ISDIR(status.st_mode) || writes)) {
      file = new_file(name);
      file->is_directory = S_ISDIR(status.st_mode);
      if (!file->is_directory) {
        add_pending(kCreated, file, name, "");
        if (dies()) end();
      }
    }
    if (file != NULL && (flags & O_TRUNC) != 0 && writes) {
      file->truncated = true;
      file->ranges = 0;
      file->size = 0;
    }
    file_of[fd] = file;
    identity_of[fd].device = status.st_dev;
    identity_of[fd].inode = status.st_ino;
  }
  pthread_mutex_unlock(&lock);
  errno = error;
  return fd;
}

/* ---- What is interposed ---- */

static mode_t mode_of(int flags, va_list rest) { return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0; }

#define OPEN(name)                            \
  int name(const char *path, int flags, ...) { \
    va_list rest;                             \
    va_start(rest, flags);                    \
    const mode_t mode = mode_of(flags, rest); \
    va_end(rest);                             \
    return modelled_open(path, flags, mode);  \
  }
OPEN(open)
OPEN(open64)

int creat(const char *path, mode_t mode) { return modelled_open(path, O_WRONLY | O_CREAT | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int fd) {
  pthread_mutex_lock(&lock);
  if (ours(fd) != NULL) file_of[fd] = NULL;
  pthread_mutex_unlock(&lock);
  return real_close(fd);
}

ssize_t write(int fd, const void *bytes, size_t length) {
  File *file = ours(fd);
  if (file == NULL) return real_write(fd, bytes, length);
  const struct iovec part = {(void *)(uintptr_t)bytes, length};
  return modelled_write(file, (Writing){fd, &part, 1, -1});
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
  File *file = ours(fd);
  if (file == NULL) return real_pwrite(fd, bytes, length, at);
  const struct iovec part = {(void *)(uintptr_t)bytes, length};
  return modelled_write(file, (Writing){fd, &part, 1, at});
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) { return pwrite64(fd, bytes, length, at); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
  File *file = ours(fd);
  if (file == NULL || count < 1) return real_writev(fd, parts, count);
  return modelled_write(file, (Writing){fd, parts, count, -1});
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
  File *file = ours(fd);
  if (file == NULL || count < 1) return real_pwritev(fd, parts, count, at);
  return modelled_write(file, (Writing){fd, parts, count, at});
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return pwritev64(fd, parts, count, at); }

int fsync(int fd) { return modelled_sync(fd, real_fsync); }
int fdatasync(int fd) { return modelled_sync(fd, real_fdatasync); }

int ftruncate64(int fd, off64_t size) {
  File *file = ours(fd);
  if (file == NULL) return real_ftruncate(fd, size);
  pthread_mutex_lock(&lock);
  if (dies()) end();
  const int result = fails(kTruncate) ? -1 : real_ftruncate(fd, size);
  const int error = errno;
  if (result == 0) {
    if (size > file->size) dirty(file, file->size, size);
    file->size = size;
    file->truncated = true;
  }
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static void rename_directory(const char *name, const char *to) {
  char from_path[PATH_MAX], to_path[PATH_MAX], moved[PATH_MAX];
  const size_t length = strlen(name);
  arrive_first(INT_MAX);
  tree_path(from_path, name);
  tree_path(to_path, to);
  if (follows && real_rename(from_path, to_path) != 0) die("renaming a directory");
  for (File *file = files; file != NULL; file = file->next) {
    if (strncmp(file->name, name, length) != 0 || (file->name[length] != '/' && file->name[length] != '\0')) continue;
    join(moved, to, file->name + length);
    join(file->name, moved, "");
  }
}

int rename(const char *path, const char *to) {
  const char *name = below(path), *new_name = below(to);
  if (name == NULL || new_name == NULL) return real_rename(path, to);
  pthread_mutex_lock(&lock);
  if (dies()) end();
  struct stat status;
  const bool is_directory = stat(path, &status) == 0 && S_ISDIR(status.st_mode);
  const int result = fails(kRename) ? -1 : real_rename(path, to);
  const int error = errno;
  if (result == 0 && is_directory) {
    rename_directory(name, new_name);
  } else if (result == 0) {
    File *file = find(name), *replaced = find(new_name);
    if (replaced != NULL && replaced != file) replaced->name[0] = '\0';
    if (file != NULL) {
      add_pending(kRenamed, file, name, new_name);
      join(file->name, new_name, "");
    }
    write_back();
  }
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

int unlink(const char *path) {
  const char *name = below(path);
  if (name == NULL) return real_unlink(path);
  pthread_mutex_lock(&lock);
  if (dies()) end();
  const int result = fails(kUnlink) ? -1 : real_unlink(path);
  const int error = errno;
  File *file = result == 0 ? find(name) : NULL;
  if (file != NULL) {
    add_pending(kUnlinked, file, name, "");
    file->name[0] = '\0';
    write_back();
  }
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

int mkdir(const char *path, mode_t mode) {
  const char *name = below(path);
  const int result = real_mkdir(path, mode);
  if (name == NULL || result != 0 || !follows) return result;
  char copy[PATH_MAX];
  tree_path(copy, name);
  if (real_mkdir(copy, 0700) != 0 && errno != EEXIST) die(copy);
  return 0;
}

int rmdir(const char *path) {
  const char *name = below(path);
  const int result = real_rmdir(path);
  if (name == NULL || result != 0 || !follows) return result;
  char copy[PATH_MAX];
  pthread_mutex_lock(&lock);
  arrive_first(INT_MAX); /* A directory goes after what was in it. */
  File *file = find(name);
  if (file != NULL) file->name[0] = '\0';
  pthread_mutex_unlock(&lock);
  tree_path(copy, name);
  real_rmdir(copy);
  errno = 0;
  return 0;
}

static ssize_t stream_write(void *cookie, const char *bytes, size_t length) {
  const ssize_t n = write(((Stream *)cookie)->fd, bytes, length);
  return n < 0 ? 0 : n; /* As fopencookie(3) wants an error told. */
}

static int stream_close(void *cookie) {
  const int result = close(((Stream *)cookie)->fd);
  free(cookie);
  return result;
}

FILE *fopen64(const char *path, const char *mode) {
  if (below(path) == NULL || (mode[0] != 'w' && mode[0] != 'a')) return real_fopen(path, mode);
  const int flags = O_WRONLY | O_CREAT | (mode[0] == 'w' ? O_TRUNC : O_APPEND);
  const int fd = modelled_open(path, flags, 0666);
  if (fd < 0) return NULL;
  Stream *cookie = malloc(sizeof *cookie);
  if (cookie == NULL) die("malloc");
  cookie->fd = fd;
  FILE *stream = fopencookie(cookie, "w", (cookie_io_functions_t){.write = stream_write, .close = stream_close});
  if (stream == NULL) die("fopencookie");
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
    if (streams[i].stream != NULL) continue;
    streams[i].stream = stream;
    streams[i].fd = fd;
    break;
  }
  pthread_mutex_unlock(&lock);
  return stream;
}
FILE *fopen(const char *path, const char *mode) { return fopen64(path, mode); }

int fileno(FILE *stream) {
  int fd = -1;
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
    if (streams[i].stream == stream) fd = streams[i].fd;
  pthread_mutex_unlock(&lock);
  return fd >= 0 ? fd : real_fileno(stream);
}

int fclose(FILE *stream) {
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
    if (streams[i].stream == stream) streams[i].stream = NULL;
  pthread_mutex_unlock(&lock);
  return real_fclose(stream);
}
