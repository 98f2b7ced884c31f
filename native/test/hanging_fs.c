/*
 * A FUSE file system with one file, temp1_input, whose read does not return while a gate file exists: a hung driver as
 * the kernel makes it, with the reading thread asleep in a system call.
 *
 *   hanging_fs GATE -f MOUNTPOINT
 */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fuse.h>
#include <string.h>
#include <unistd.h>

static const char kName[] = "/temp1_input";
static const char kContent[] = "42000\n";
static const char *gate;

static int get_attributes(const char *path, struct stat *out, struct fuse_file_info *info) {
  (void)info;
  memset(out, 0, sizeof *out);
  out->st_nlink = 1;
  if (strcmp(path, "/") == 0) {
    out->st_mode = S_IFDIR | 0755;
    return 0;
  }
  if (strcmp(path, kName) != 0) return -ENOENT;
  out->st_mode = S_IFREG | 0444;
  out->st_size = sizeof kContent - 1;
  return 0;
}

static int open_file(const char *path, struct fuse_file_info *info) {
  if (strcmp(path, kName) != 0) return -ENOENT;
  info->direct_io = 1; /* Every pread comes here, as every pread of sysfs comes to the driver. */
  return 0;
}

static int read_file(const char *path, char *buffer, size_t size, off_t offset, struct fuse_file_info *info) {
  (void)path;
  (void)info;
  while (access(gate, F_OK) == 0) usleep(2000);
  const size_t length = sizeof kContent - 1;
  if (offset >= (off_t)length) return 0;
  if (size > length - (size_t)offset) size = length - (size_t)offset;
  memcpy(buffer, kContent + offset, size);
  return (int)size;
}

static const struct fuse_operations kOperations = {.getattr = get_attributes, .open = open_file, .read = read_file};

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  gate = argv[1];
  argv[1] = argv[0];
  return fuse_main(argc - 1, argv + 1, &kOperations, NULL);
}
