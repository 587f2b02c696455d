/* A library to preload: read() of a file "temp" beside a file "gated" fails with the errno NUMBER, as
   that of a thermal zone whose part of the chip is without power. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

ssize_t read(int descriptor, void *buffer, size_t size) {
  static ssize_t (*original)(int, void *, size_t);
  char link[64], path[4096];
  ssize_t length;
  if (!original) original = dlsym(RTLD_NEXT, "read");
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  length = readlink(link, path, sizeof path - 16);
  if (length > 5) {
    path[length] = 0;
    if (!strcmp(path + length - 5, "/temp")) {
      strcpy(path + length - 5, "/gated");
      if (!access(path, F_OK)) {
        errno = NUMBER;
        return -1;
      }
    }
  }
  return original(descriptor, buffer, size);
}
