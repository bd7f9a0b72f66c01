/*
** What the faulty plugin does wrong at the moment: pairs `FUNCTION FAULT`, with commas between them, such as
** `apply garbage, close hang`: the first line of the file `fault` in its folder, or, where there is none, of --backend-config.
*/
#ifndef FAULTS_H
#define FAULTS_H

#include "lbex_plugin.h"
#include "store.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct state {
  struct lbex_backend table;
  const struct lbex_host *host;
  char folder[4000], config[4096], revision[256];
  struct store serves;
  volatile int cancelled;
  unsigned looks;
};

static void nap(long ms) {
  struct timespec time;
  time.tv_sec = ms / 1000;
  time.tv_nsec = ms % 1000 * 1000000;
  nanosleep(&time, NULL);
}

/* Whether `function` has this fault by now; `fault` NULL: whether it has any, which is put into `out`. */
static int has(const char *folder, const char *config, const char *function, const char *fault, char *out, size_t room) {
  char line[4096] = "", path[4200], *pair, *rest;
  FILE *file;
  snprintf(path, sizeof path, "%s/fault", folder);
  if ((file = fopen(path, "re")) != NULL) {
    if (fgets(line, sizeof line, file) == NULL) line[0] = 0;
    fclose(file);
  } else snprintf(line, sizeof line, "%s", config);
  line[strcspn(line, "\n")] = 0;
  for (pair = strtok_r(line, ",", &rest); pair != NULL; pair = strtok_r(NULL, ",", &rest)) {
    size_t len = strlen(function);
    pair += strspn(pair, " ");
    if (strncmp(pair, function, len) != 0 || pair[len] != ' ') continue;
    if (fault != NULL && strcmp(pair + len + 1, fault) != 0) continue;
    if (out != NULL) snprintf(out, room, "%s", pair + len + 1);
    return 1;
  }
  return 0;
}

static int does(const struct state *state, const char *function, const char *fault) {
  return has(state->folder, state->config, function, fault, NULL, 0);
}

static int32_t say(struct lbex_buf *reply, int32_t code, const char *text) {
  reply->len = strlen(text);
  reply->data = (uint8_t *)copied(text, reply->len);
  return code;
}

/* `begin`, `count` times `again`, `end`. */
static int32_t say_much(struct lbex_buf *reply, int32_t code, const char *begin, const char *again, size_t count, const char *end) {
  size_t len = strlen(again), i;
  char *at;
  reply->len = strlen(begin) + count * len + strlen(end);
  reply->data = malloc(reply->len + 1);
  at = (char *)reply->data + strlen(begin);
  memcpy(reply->data, begin, strlen(begin));
  for (i = 0; i < count; i++, at += len) memcpy(at, again, len);
  memcpy(at, end, strlen(end) + 1);
  return code;
}

#define REPORT "{\"schema\":\"lbex.report/1\",\"revision\":\"%s\",\"action\":\"live\""

/* Answers that are wrong whatever was asked; %s is the revision that is right. */
static const struct { const char *fault; int32_t code; const char *text; } ANSWERS[] = {
  {"garbage", LBEX_OK, "{\"schema\": \xff\xfe garbage"},
  {"schema", LBEX_OK, "{\"schema\":\"lbex.nonsense/9\"}"},
  {"array", LBEX_OK, "[]"},
  {"number", LBEX_OK, "{\"schema\":\"lbex.report/1\",\"revision\":7,\"action\":\"live\"}"},
  {"revision", LBEX_OK, "{\"schema\":\"lbex.report/1\",\"revision\":\"mine\",\"action\":\"live\"}"},
  {"retry", LBEX_RETRY, "not now,\nplease"},
  {"invalid", LBEX_INVALID, "never"},
  {"unsupported", LBEX_UNSUPPORTED, "not I"},
  {"resync", LBEX_RESYNC, ""},
  {"panic", LBEX_PANIC, "index out of bounds"},
  {"code", -7, "what?"},
  {"noname", LBEX_PARTIAL, REPORT ",\"refused\":{\"../../etc/passwd\":[{\"code\":\"No\",\"message\":\"no\"}]}}"},
  {"reasonless", LBEX_PARTIAL, REPORT ",\"refused\":{\"default/web\":[]}}"},
  {"word", LBEX_PARTIAL, REPORT ",\"refused\":{\"default/web\":[{\"code\":\"a word\\n\",\"message\":\"no\"}]}}"},
  {"contradiction", LBEX_PARTIAL, REPORT "}"},
  {"hidden", LBEX_OK, REPORT ",\"refused\":{\"default/web\":[{\"code\":\"No\",\"message\":\"no\"}]}}"},
};

/* Buffers that are not what they say. Whether `fault` is one of them. */
static int lies(const char *fault, struct lbex_buf *reply) {
  static uint8_t byte;
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  if (strcmp(fault, "empty") == 0) return 1;
  if (strcmp(fault, "null") == 0) reply->len = (size_t)1 << 40;
  else if (strcmp(fault, "huge") == 0) reply->data = &byte, reply->len = (size_t)1 << 40;
  else if (strcmp(fault, "endless") == 0) reply->data = &byte, reply->len = (size_t)-1;
  else if (strcmp(fault, "nowhere") == 0) reply->data = (uint8_t *)(uintptr_t)4096, reply->len = 100;
  else if (strcmp(fault, "beyond") == 0) {
    /* A page that ends where nothing is. */
    reply->data = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(reply->data + page, page, PROT_NONE);
    reply->len = page + 100;
  } else return 0;
  return 1;
}

static int overflow(volatile int depth) {
  volatile char room[1024];
  room[0] = (char)depth;
  return depth < 0 ? 0 : overflow(depth + 1) + room[0];
}

/* Ends the process. */
static void die(const char *fault) {
  if (strcmp(fault, "segv") == 0) raise(SIGSEGV);
  if (strcmp(fault, "abort") == 0) abort();
  if (strcmp(fault, "exit") == 0) _exit(0);
  if (strcmp(fault, "overflow") == 0) exit(overflow(0));
}

/* Whether `function` does wrong instead of what it should; then *code and *reply are how. */
static int wrong(struct state *state, const char *function, const char *revision, struct lbex_buf *reply, int32_t *code) {
  char fault[64], text[1024];
  size_t i;
  if (!has(state->folder, state->config, function, NULL, fault, sizeof fault)) return 0;
  die(fault);
  *code = LBEX_OK;
  if (lies(fault, reply)) return 1;
  for (i = 0; i < sizeof ANSWERS / sizeof *ANSWERS; i++) {
    if (strcmp(fault, ANSWERS[i].fault) != 0) continue;
    snprintf(text, sizeof text, ANSWERS[i].text, revision);
    *code = say(reply, ANSWERS[i].code, text);
    return 1;
  }
  if (strcmp(fault, "deep") == 0) *code = say_much(reply, LBEX_OK, "", "[", 100000, "");
  else if (strcmp(fault, "long") == 0) *code = say_much(reply, LBEX_RETRY, "", "\x1b[31mno\n", 1000000, "");
  else if (strcmp(fault, "large") == 0) reply->data = calloc(1, LBEX_MAX_DOCUMENT + 1), reply->len = LBEX_MAX_DOCUMENT + 1;
  else if (strcmp(fault, "hang") == 0) {
    /* Whatever anybody says. */
    while (does(state, function, "hang")) nap(2);
    *code = say(reply, LBEX_RETRY, "hung");
  } else if (strcmp(fault, "late") == 0) {
    while (!state->cancelled && does(state, function, "late")) nap(2);
    *code = say(reply, LBEX_RETRY, "cancelled");
  } else return 0;
  return 1;
}

/* A thread that goes on calling LBEX, also when the backend is closed, until its fault is over. */
struct storm {
  const struct lbex_host *host;
  char folder[4000];
};

static void *storm(void *arg) {
  struct storm *storm = arg;
  while (has(storm->folder, "", "thread", "storm", NULL, 0)) {
    storm->host->log(storm->host->ctx, LBEX_LOG_INFO, "still here", 10);
    storm->host->wake(storm->host->ctx);
  }
  free(storm);
  return NULL;
}

static void begin_storm(const struct state *state) {
  struct storm *begun = malloc(sizeof *begun);
  pthread_t thread;
  begun->host = state->host;
  memcpy(begun->folder, state->folder, sizeof begun->folder);
  if (pthread_create(&thread, NULL, storm, begun) == 0) pthread_detach(thread);
  else free(begun);
}

/* Log lines that are none. */
static void log_lines(const struct lbex_host *host) {
  static const char odd[] = "\x1b[2J\xff\xfe and\na line feed";
  host->log(host->ctx, 77, odd, sizeof odd - 1);
  host->log(host->ctx, -1, odd, 0);
  host->log(host->ctx, LBEX_LOG_INFO, NULL, 100);
  host->log(host->ctx, LBEX_LOG_INFO, (const char *)(uintptr_t)64, 100);
  host->log(host->ctx, LBEX_LOG_INFO, odd, (size_t)-1);
}

static void log_flood(const struct lbex_host *host) {
  int line;
  for (line = 0; line < 100000; line++) host->log(host->ctx, LBEX_LOG_INFO, "and another thing", 17);
}

#endif
