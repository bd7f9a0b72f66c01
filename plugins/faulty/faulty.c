/*
** A plugin that does wrong, for LBEX's tests: what is wrong with the library itself
** is chosen when it is compiled (-DFAULT_...), everything else by the first line of
** --backend-config: `FUNCTION FAULT`, such as `apply garbage`. As soon as the file
** `fixed` is in its folder it does all as it should.
*/
#define _DEFAULT_SOURCE
#include "lbex_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct state {
  struct lbex_backend table;
  const struct lbex_host *host;
  char fixed[4096], revision[256];
  const char *function, *fault;
  volatile int cancelled;
};

static char config[4096];

/* The text of a member, which is written once, and has no escapes. */
static size_t text_of(const char *json, const char *name, char *out, size_t room) {
  const char *at = strstr(json, name), *end;
  if (at == NULL || (end = strchr(at + strlen(name), '"')) == NULL || (size_t)(end - at) - strlen(name) >= room) return 0;
  at += strlen(name);
  memcpy(out, at, (size_t)(end - at));
  out[end - at] = 0;
  return (size_t)(end - at);
}

static void nap(void) {
  struct timespec ms = {0, 1000000};
  nanosleep(&ms, NULL);
}

static int is_fixed(const struct state *state) { return access(state->fixed, F_OK) == 0; }

static int32_t say(struct lbex_buf *reply, int32_t code, const char *text) {
  reply->len = strlen(text);
  reply->data = malloc(reply->len + 1);
  memcpy(reply->data, text, reply->len);
  return code;
}

/* Whether `function` is the one that does wrong; then *code and *reply are how. */
static int wrong(struct state *state, const char *function, struct lbex_buf *reply, int32_t *code) {
  const char *fault = state->fault;
  long page = sysconf(_SC_PAGESIZE);
  if (strcmp(function, state->function) != 0 || is_fixed(state)) return 0;
  if (strcmp(fault, "garbage") == 0) *code = say(reply, LBEX_OK, "{\"schema\": \xff\xfe garbage");
  else if (strcmp(fault, "schema") == 0) *code = say(reply, LBEX_OK, "{\"schema\":\"lbex.nonsense/9\"}");
  else if (strcmp(fault, "empty") == 0) *code = LBEX_OK;
  else if (strcmp(fault, "retry") == 0) *code = say(reply, LBEX_RETRY, "not now,\nplease");
  else if (strcmp(fault, "invalid") == 0) *code = say(reply, LBEX_INVALID, "never");
  else if (strcmp(fault, "unsupported") == 0) *code = say(reply, LBEX_UNSUPPORTED, "not I");
  else if (strcmp(fault, "resync") == 0) *code = LBEX_RESYNC;
  else if (strcmp(fault, "panic") == 0) *code = say(reply, LBEX_PANIC, "index out of bounds");
  else if (strcmp(fault, "code") == 0) *code = say(reply, -7, "what?");
  else if (strcmp(fault, "revision") == 0) *code = say(reply, LBEX_OK, "{\"schema\":\"lbex.report/1\",\"revision\":\"mine\",\"action\":\"live\"}");
  else if (strcmp(fault, "huge") == 0) {
    static uint8_t byte;
    reply->data = &byte;
    reply->len = (size_t)1 << 40;
    *code = LBEX_OK;
  } else if (strcmp(fault, "nowhere") == 0) {
    reply->data = (uint8_t *)(uintptr_t)4096;
    reply->len = 100;
    *code = LBEX_OK;
  } else if (strcmp(fault, "beyond") == 0) {
    /* A page that ends where nothing is. */
    uint8_t *pages = mmap(NULL, 2 * (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages + page, (size_t)page, PROT_NONE);
    reply->data = pages;
    reply->len = (size_t)page + 100;
    *code = LBEX_OK;
  } else if (strcmp(fault, "hang") == 0) {
    /* Whatever anybody says. */
    while (!is_fixed(state)) nap();
    *code = say(reply, LBEX_RETRY, "hung");
  } else if (strcmp(fault, "late") == 0) {
    while (!state->cancelled && !is_fixed(state)) nap();
    *code = say(reply, LBEX_RETRY, "cancelled");
  } else if (strcmp(fault, "flood") == 0) {
    int line;
    for (line = 0; line < 100000; line++) state->host->log(state->host->ctx, LBEX_LOG_INFO, "and another thing", 17);
    state->host->log(state->host->ctx, LBEX_LOG_INFO, (const char *)(uintptr_t)64, 100);
    return 0;
  } else return 0;
  return 1;
}

static int32_t apply(void *ctx, const uint8_t *document, size_t len, uint32_t timeout_ms, struct lbex_buf *reply) {
  struct state *state = ctx;
  char *json = malloc(len + 1), from[256] = "", text[512];
  int32_t code;
  (void)timeout_ms;
  memcpy(json, document, len);
  json[len] = 0;
  state->cancelled = 0;
  if (wrong(state, "apply", reply, &code)) {
    free(json);
    return code;
  }
  while (strcmp(state->function, "cancel") == 0 && !is_fixed(state)) nap();
  text_of(json, "\"from\":\"", from, sizeof from);
  if (strstr(json, "lbex.delta/1") != NULL && strcmp(from, state->revision) != 0) {
    free(json);
    return LBEX_RESYNC;
  }
  text_of(json, "\"revision\":\"", state->revision, sizeof state->revision);
  if (strcmp(state->fault, "wake") == 0) state->host->wake(state->host->ctx);
  if (!is_fixed(state) && strcmp(state->fault, "partial") == 0) {
    snprintf(text, sizeof text, "{\"schema\":\"lbex.report/1\",\"revision\":\"%s\",\"action\":\"reloaded\"}", state->revision);
    free(json);
    return say(reply, LBEX_PARTIAL, text);
  }
  snprintf(text, sizeof text, "{\"schema\":\"lbex.report/1\",\"revision\":\"%s\",\"action\":\"%s\"}", state->revision, from[0] ? "reloaded" : "started");
  free(json);
  return say(reply, LBEX_OK, text);
}

static int32_t observe(void *ctx, uint32_t timeout_ms, struct lbex_buf *reply) {
  struct state *state = ctx;
  char text[512];
  int32_t code;
  (void)timeout_ms;
  state->cancelled = 0;
  if (wrong(state, "observe", reply, &code)) return code;
  if (state->revision[0] == 0) return say(reply, LBEX_OK, "{\"schema\":\"lbex.observation/1\",\"healthy\":false,\"detail\":\"new\"}");
  snprintf(text, sizeof text, "{\"schema\":\"lbex.observation/1\",\"healthy\":true,\"detail\":\"faulty\",\"revision\":\"%s\"}",
           state->revision);
  return say(reply, LBEX_OK, text);
}

static int32_t stop(void *ctx, uint32_t drain_ms, uint32_t timeout_ms, struct lbex_buf *reply) {
  int32_t code;
  (void)drain_ms;
  (void)timeout_ms;
  return wrong(ctx, "stop", reply, &code) ? code : LBEX_OK;
}

static void cancel(void *ctx) {
  struct state *state = ctx;
  if (!is_fixed(state) && strcmp(state->function, "cancel") == 0) {
    while (!is_fixed(state)) nap();
  }
  state->cancelled = 1;
}

static void info_buf_free(struct lbex_buf *buf) { free(buf->data); }

static void backend_buf_free(void *ctx, struct lbex_buf *buf) {
  (void)ctx;
  free(buf->data);
}

static void close_backend(void *ctx) { free(ctx); }

#ifdef FAULT_NO_OPEN
#define lbex_plugin_open another_name
#endif

LBEX_EXPORT int32_t lbex_plugin_open(const struct lbex_host *host, const uint8_t *settings, size_t settings_len,
                                     const struct lbex_backend **backend, struct lbex_buf *reply) {
  struct state *state = calloc(1, sizeof *state);
  char *json = malloc(settings_len + 1), folder[4000] = "", *space;
  int32_t code = LBEX_OK;
  memcpy(json, settings, settings_len);
  json[settings_len] = 0;
  text_of(json, "\"state_dir\":\"", folder, sizeof folder);
  config[0] = 0;
  text_of(json, "\"config\":\"", config, sizeof config);
  free(json);
  snprintf(state->fixed, sizeof state->fixed, "%s/fixed", folder);
  config[strcspn(config, "\\")] = 0;
  space = strchr(config, ' ');
  state->function = config;
  state->fault = space ? space + 1 : "";
  if (space) *space = 0;
  state->host = host;
  state->table = (struct lbex_backend){sizeof state->table, 0, state, apply, observe, cancel, backend_buf_free, close_backend, stop};
  if (wrong(state, "open", reply, &code)) {
    if (code == LBEX_OK) *backend = &state->table;
    return code;
  }
  *backend = &state->table;
  if (strcmp(state->function, "table") != 0 || is_fixed(state)) return LBEX_OK;
  if (strcmp(state->fault, "none") == 0) *backend = NULL;
  if (strcmp(state->fault, "small") == 0) state->table.size = 16;
  if (strcmp(state->fault, "nowhere") == 0) *backend = (const struct lbex_backend *)(uintptr_t)4096;
  if (strcmp(state->fault, "apply") == 0) state->table.apply = NULL;
  /* As of ABI 1.0: what is behind the size is not there, whatever it is. */
  if (strcmp(state->fault, "old") == 0) {
    state->table.size = (uint32_t)offsetof(struct lbex_backend, stop);
    memset((char *)&state->table + state->table.size, 0x5a, sizeof state->table - state->table.size);
  }
  return LBEX_OK;
}

#ifndef FAULT_MAGIC
#define FAULT_MAGIC LBEX_PLUGIN_MAGIC
#endif
#ifndef FAULT_MAJOR
#define FAULT_MAJOR LBEX_ABI_MAJOR
#endif
#ifndef FAULT_QUERY
#define FAULT_QUERY &info
#endif
#ifndef FAULT_MINOR
#define FAULT_MINOR LBEX_ABI_MINOR
#endif
#ifndef FAULT_SIZE
#define FAULT_SIZE sizeof(struct lbex_plugin_info)
#endif
#ifndef FAULT_NAME
#define FAULT_NAME "faulty"
#endif
#ifndef FAULT_CAPABILITIES
#define FAULT_CAPABILITIES "{\"schema\":\"lbex.capabilities/1\",\"description\":\"a faulty proxy\",\"live_servers\":true}"
#endif

LBEX_EXPORT const struct lbex_plugin_info *lbex_plugin_query(void) {
  static const struct lbex_plugin_info info = {FAULT_MAGIC, FAULT_SIZE, FAULT_MAJOR, FAULT_MINOR, sizeof(struct lbex_backend),
                                               sizeof(struct lbex_host), FAULT_NAME, "0.0.1", FAULT_CAPABILITIES, info_buf_free};
  (void)info;
  return FAULT_QUERY;
}
