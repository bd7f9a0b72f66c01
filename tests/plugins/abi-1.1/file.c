/*
** As of ABI 1.1, and not to be changed. A backend for LBEX in C, without any library: it writes what LBEX wants to a
** file, for a program that reads it from there.
**
**     cc -std=c99 -shared -fPIC -I . -o libfile.so file.c
**     lbex --backend ./libfile.so --manifests DIR
**
** The file is desired.json in the plugin's own folder, or what the first line of
** --backend-config FILE says. It is replaced by rename: whoever opens it finds a
** whole document, lbex.desired/1.
*/
#define _POSIX_C_SOURCE 200809L
#include "lbex_plugin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct file {
  struct lbex_backend table;
  const struct lbex_host *host;
  char path[4096], next[4096 + 8];
  char revision[256]; /* What was written last; empty: nothing. */
  struct stat written;
};

/* The text of a member of a JSON object, as it stands between its quotes; NULL: there is none. */
static const char *member(const uint8_t *json, size_t len, const char *name, size_t *text_len) {
  size_t depth = 0, start = 0, i;
  int is_name = 0, found = 0; /* Inside an object, a text before ':' is a name. */
  for (i = 0; i < len; i++) {
    if (json[i] == '{' || json[i] == '[') depth++;
    if (json[i] == '}' || json[i] == ']') depth--;
    if (depth == 1 && (json[i] == '{' || json[i] == ',')) is_name = 1;
    if (json[i] != '"') continue;
    start = ++i;
    while (i < len && json[i] != '"') i += json[i] == '\\' ? 2 : 1;
    if (i >= len) return NULL;
    if (depth != 1) continue;
    if (!is_name && found) {
      *text_len = i - start;
      return (const char *)json + start;
    }
    found = is_name && i - start == strlen(name) && memcmp(json + start, name, i - start) == 0;
    is_name = 0;
  }
  return NULL;
}

/* Whether this is one object, from its first brace to its last. */
static int is_whole(const uint8_t *json, size_t len) {
  size_t depth = 0, i;
  for (i = 0; i < len; i++) {
    if (json[i] == '{' || json[i] == '[') depth++;
    if ((json[i] == '}' || json[i] == ']') && depth-- == 1) return json[0] == '{' && i + 1 == len;
    if (json[i] == '"')
      for (i++; i < len && json[i] != '"'; i++) i += json[i] == '\\';
  }
  return 0;
}

/* Fills the reply; buf_free frees it. */
static int32_t reply_with(struct lbex_buf *reply, int32_t code, const char *format, const char *a, const char *b) {
  size_t room = strlen(format) + strlen(a) + strlen(b) + 1;
  char *text = malloc(room);
  if (text != NULL) {
    reply->data = (uint8_t *)text;
    reply->len = (size_t)snprintf(text, room, format, a, b);
  }
  return code;
}

static int same_file(const struct file *file) {
  struct stat now;
  return stat(file->path, &now) == 0 && now.st_ino == file->written.st_ino && now.st_dev == file->written.st_dev &&
         now.st_size == file->written.st_size && now.st_mtime == file->written.st_mtime;
}

static int write_file(struct file *file, const uint8_t *bytes, size_t len) {
  size_t done = 0;
  int fd = open(file->next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return -1;
  while (done < len) {
    ssize_t n = write(fd, bytes + done, len - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;
    done += (size_t)n;
  }
  if (done < len || fsync(fd) != 0 || fstat(fd, &file->written) != 0) {
    int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  if (close(fd) != 0) return -1;
  return rename(file->next, file->path);
}

static int32_t apply(void *ctx, const uint8_t *document, size_t len, uint32_t timeout_ms, struct lbex_buf *reply) {
  struct file *file = ctx;
  size_t schema_len, revision_len;
  const char *schema = member(document, len, "schema", &schema_len);
  const char *revision = member(document, len, "revision", &revision_len);
  const char *action = file->revision[0] == 0 ? "started" : "reloaded";
  (void)timeout_ms;
  if (!is_whole(document, len) || schema == NULL || revision == NULL || revision_len >= sizeof file->revision)
    return reply_with(reply, LBEX_INVALID, "the document is not whole, or has no schema or no revision%s%s", "", "");
  /* The file holds everything, so a change alone is of no use. */
  if (schema_len == 12 && memcmp(schema, "lbex.delta/1", 12) == 0) return LBEX_RESYNC;
  if (schema_len != 14 || memcmp(schema, "lbex.desired/1", 14) != 0)
    return reply_with(reply, LBEX_INVALID, "the document is not lbex.desired/1%s%s", "", "");
  if (strlen(file->revision) == revision_len && memcmp(file->revision, revision, revision_len) == 0 && same_file(file)) {
    action = "unchanged";
  } else if (write_file(file, document, len) != 0) {
    file->revision[0] = 0;
    return reply_with(reply, LBEX_RETRY, "failed to write %s: %s", file->path, strerror(errno));
  }
  memcpy(file->revision, revision, revision_len);
  file->revision[revision_len] = 0;
  return reply_with(reply, LBEX_OK, "{\"schema\":\"lbex.report/1\",\"revision\":\"%s\",\"action\":\"%s\"}", file->revision, action);
}

static int32_t observe(void *ctx, uint32_t timeout_ms, struct lbex_buf *reply) {
  struct file *file = ctx;
  (void)timeout_ms;
  if (file->revision[0] == 0)
    return reply_with(reply, LBEX_OK, "{\"schema\":\"lbex.observation/1\",\"healthy\":false,\"detail\":\"nothing written yet%s%s\"}", "", "");
  if (!same_file(file))
    return reply_with(reply, LBEX_OK, "{\"schema\":\"lbex.observation/1\",\"healthy\":false,\"detail\":\"somebody else changed the file\",\"revision\":\"%s\"%s}", file->revision, "");
  return reply_with(reply, LBEX_OK, "{\"schema\":\"lbex.observation/1\",\"healthy\":true,\"detail\":\"the file is as written\",\"revision\":\"%s\"%s}", file->revision, "");
}

/* No call here waits for anything. */
static void cancel(void *ctx) { (void)ctx; }

static void info_buf_free(struct lbex_buf *buf) {
  free(buf->data);
  buf->data = NULL;
}

static void backend_buf_free(void *ctx, struct lbex_buf *buf) {
  (void)ctx;
  info_buf_free(buf);
}

/* The file stays. */
static void close_backend(void *ctx) { free(ctx); }

LBEX_EXPORT int32_t lbex_plugin_open(const struct lbex_host *host, const uint8_t *settings, size_t settings_len,
                                     const struct lbex_backend **backend, struct lbex_buf *reply) {
  static const char opened[] = "the desired state is written to a file";
  size_t len = 0, folder_len = 0;
  const char *config = member(settings, settings_len, "config", &len);
  const char *folder = member(settings, settings_len, "state_dir", &folder_len);
  struct file *file = calloc(1, sizeof *file);
  if (file == NULL) return LBEX_RETRY;
  if (config != NULL) { /* Its first line: up to the backslash of the escaped newline. */
    const char *end = memchr(config, '\\', len);
    if (end != NULL) len = (size_t)(end - config);
    if (len < sizeof file->path) memcpy(file->path, config, len);
  } else if (folder != NULL && folder_len + 14 < sizeof file->path) {
    snprintf(file->path, sizeof file->path, "%.*s/desired.json", (int)folder_len, folder);
  }
  if (file->path[0] != '/') {
    free(file);
    return reply_with(reply, LBEX_INVALID, "--backend-config has to hold the absolute path of the file to write%s%s", "", "");
  }
  snprintf(file->next, sizeof file->next, "%s.next", file->path);
  file->host = host;
  file->table = (struct lbex_backend){sizeof file->table, 0, file, apply, observe, cancel, backend_buf_free, close_backend, NULL};
  *backend = &file->table;
  host->log(host->ctx, LBEX_LOG_INFO, opened, sizeof opened - 1);
  return LBEX_OK;
}

LBEX_EXPORT const struct lbex_plugin_info *lbex_plugin_query(void) {
  static const struct lbex_plugin_info info = {
      LBEX_PLUGIN_MAGIC, sizeof info, LBEX_ABI_MAJOR, LBEX_ABI_MINOR, sizeof(struct lbex_backend), sizeof(struct lbex_host),
      "file", "1.0.0",
      "{\"schema\":\"lbex.capabilities/1\",\"description\":\"a file\",\"dns_servers\":true,"
      "\"algorithms\":[\"round_robin\",\"least_conn\",\"least_time\",\"client_ip\"]}",
      info_buf_free};
  return &info;
}
