/*
** A plugin that does wrong, for LBEX's tests: what is wrong with the library itself is chosen when it is compiled (-DFAULT_...),
** everything else while it runs (faults.h). Without a fault it is one that does all as it should, but has no proxy: what it serves is
** in the file `serves.json` in its folder.
*/
#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L
#include "faults.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* The document of an apply, taken apart. */
struct document {
  char *json, revision[256], from[256];
  struct span services;
  int is_delta, is_live;
};

static int32_t take_apart(const struct state *state, struct document *document) {
  const char *end = document->json[0] == '{' ? value_end(document->json) : NULL;
  struct span schema = member(document->json, "schema");
  document->is_delta = is(schema, "\"lbex.delta/1\"");
  document->is_live = is(member(document->json, "live"), "true");
  document->services = member(document->json, "services");
  text_of(member(document->json, "from"), document->from, sizeof document->from);
  text_of(member(document->json, "revision"), document->revision, sizeof document->revision);
  if (does(state, "apply", "naive")) {
    /* The first thing of that name, wherever it is. */
    struct span found = {strstr(document->json, "\"revision\":\""), 0};
    if (found.at != NULL) found.at += 11, found.len = (size_t)(text_end(found.at) - found.at);
    text_of(found, document->revision, sizeof document->revision);
  }
  if (does(state, "apply", "gullible")) return LBEX_OK;
  if (end == NULL || *end != 0 || (!document->is_delta && !is(schema, "\"lbex.desired/1\""))) return LBEX_INVALID;
  return LBEX_OK;
}

static int is_taken(int port) {
  struct sockaddr_in address;
  int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1, taken;
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_port = htons((uint16_t)port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  taken = bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 1) != 0;
  close(fd);
  return taken;
}

/* Whether a port of these Services, which are few, is taken. */
static int some_are_taken(const struct store *serves) {
  size_t i;
  const char *port;
  if (serves->count > 10) return 0;
  for (i = 0; i < serves->count; i++)
    if ((port = strstr(serves->all[i].value, "\"port\":")) != NULL && is_taken(atoi(port + 7))) return 1;
  return 0;
}

/* Refuses what it serves, but for the first `but`. */
static int32_t refuse(const struct state *state, const char *report, size_t but, struct lbex_buf *reply) {
  size_t i, room = strlen(report) + 100;
  char *text, *at;
  for (i = but; i < state->serves.count; i++) room += strlen(state->serves.all[i].name) + 100;
  at = text = malloc(room);
  at += sprintf(at, "%s,\"refused\":", report);
  for (i = but; i < state->serves.count; i++)
    at += sprintf(at, "%s\"%s\":[{\"code\":\"TooMany\",\"message\":\"no room\"}]", i > but ? "," : "{", state->serves.all[i].name);
  strcpy(at, "}}");
  reply->data = (uint8_t *)text;
  reply->len = strlen(text);
  return LBEX_PARTIAL;
}

/* The answer where all is done: as it should be, or a bit beside. */
static int32_t done(const struct state *state, const struct document *document, const char *action, struct lbex_buf *reply) {
  const char *report_end = "}";
  char report[1024];
  if (does(state, "apply", "eager") && strcmp(action, "unchanged") == 0) action = "reloaded";
  if (does(state, "apply", "dances") && strcmp(action, "unchanged") != 0) action = "danced";
  if (does(state, "apply", "typo")) report_end = ",\"refusals\":{}}";
  snprintf(report, sizeof report, "{\"schema\":\"lbex.report/1\",\"revision\":\"%s\",\"action\":\"%s\"", document->revision, action);
  if (does(state, "apply", "few") && state->serves.count > 100) return refuse(state, report, 100, reply);
  if (does(state, "apply", "whole") && some_are_taken(&state->serves)) return refuse(state, report, 0, reply);
  if (does(state, "apply", "stranger")) {
    strcat(report, ",\"refused\":{\"nobody/asked\":[{\"code\":\"Strange\",\"message\":\"who?\"}]}}");
    return say(reply, LBEX_PARTIAL, report);
  }
  if (does(state, "apply", "wide")) {
    strcat(report, ",\"more\":[0");
    return say_much(reply, LBEX_OK, report, ",12345678901234", 2000000, "]}");
  }
  strcat(report, report_end);
  return say(reply, LBEX_OK, report);
}

/* What a delta changes, or a whole state. */
static const char *take(struct state *state, const struct document *document) {
  struct store before = state->serves;
  int is_new = state->revision[0] == 0, changed;
  if (document->is_delta) changed = store_take(&state->serves, document->services);
  else {
    memset(&state->serves, 0, sizeof state->serves);
    store_take(&state->serves, document->services);
    changed = !store_same(&before, &state->serves);
    store_clear(&before);
  }
  memcpy(state->revision, document->revision, sizeof state->revision);
  store_write(&state->serves, state->folder, state->revision);
  return is_new ? "started" : !changed ? "unchanged" : document->is_live ? "live" : "reloaded";
}

static int32_t apply_document(struct state *state, struct document *document, uint32_t timeout_ms, struct lbex_buf *reply) {
  int32_t is_none = take_apart(state, document), code;
  if (wrong(state, "apply", document->revision, reply, &code)) return code;
  if (document->is_live && wrong(state, "live", document->revision, reply, &code)) return code;
  if (does(state, "thread", "storm")) begin_storm(state);
  if (does(state, "apply", "flood")) log_flood(state->host);
  if (does(state, "apply", "lines")) log_lines(state->host);
  if (does(state, "apply", "slow")) nap(150);
  /* No time, and deaf to cancel. */
  if (does(state, "apply", "deaf") && timeout_ms < 10) nap(1500);
  while (does(state, "cancel", "hang")) nap(2);
  if (is_none != LBEX_OK) return say(reply, is_none, "that is no document for me");
  if (does(state, "apply", "sticky") && state->cancelled) {
    state->cancelled = timeout_ms < 10;
    return say(reply, LBEX_RETRY, "cancelled");
  }
  if (document->is_delta && strcmp(document->from, state->revision) != 0) return LBEX_RESYNC;
  if (does(state, "none", "wake")) state->host->wake(state->host->ctx);
  return done(state, document, take(state, document), reply);
}

static int32_t apply(void *ctx, const uint8_t *bytes, size_t len, uint32_t timeout_ms, struct lbex_buf *reply) {
  struct state *state = ctx;
  struct document document;
  int32_t code;
  memset(&document, 0, sizeof document);
  document.json = copied(bytes, len);
  if (does(state, "apply", "scribble")) memset((uint8_t *)(uintptr_t)bytes, '!', len);
  if (!does(state, "apply", "sticky")) state->cancelled = 0;
  if (timeout_ms < 10 && does(state, "apply", "sticky")) state->cancelled = 1;
  code = apply_document(state, &document, timeout_ms, reply);
  free(document.json);
  return code;
}

/* More measures than anybody wants, of which some are none. */
static int32_t measures(const char *begin, struct lbex_buf *reply) {
  size_t room = 400000;
  char *text = malloc(room), *at = text;
  int number;
  at += sprintf(at, "%s,\"metrics\":{\"NOT A NAME\\n\":1,\"\":2", begin);
  for (number = 0; number < 10000; number++) at += sprintf(at, ",\"measure_%d\":%d", number, number);
  strcpy(at, "}}");
  reply->data = (uint8_t *)text;
  reply->len = strlen(text);
  return LBEX_OK;
}

static int32_t observe(void *ctx, uint32_t timeout_ms, struct lbex_buf *reply) {
  struct state *state = ctx;
  const char *revision = state->revision;
  char text[1024];
  int32_t code;
  state->cancelled = 0;
  state->looks++;
  if (does(state, "observe", "revision")) revision = "made-up";
  else if (wrong(state, "observe", revision, reply, &code)) return code;
  if (does(state, "observe", "slow")) nap((long)timeout_ms + 50);
  if (does(state, "observe", "unhealthy"))
    return say(reply, LBEX_OK, "{\"schema\":\"lbex.observation/1\",\"healthy\":false,\"detail\":\"the proxy\\nis on fire\"}");
  if (revision[0] == 0) return say(reply, LBEX_OK, "{\"schema\":\"lbex.observation/1\",\"healthy\":false,\"detail\":\"new\"}");
  snprintf(text, sizeof text, "{\"schema\":\"lbex.observation/1\",\"healthy\":true,\"detail\":\"faulty\",\"revision\":\"%s\"%s", revision,
           does(state, "observe", "step") ? ",\"in_step\":false" : "");
  if (does(state, "observe", "measures")) return measures(text, reply);
  snprintf(text + strlen(text), sizeof text - strlen(text), ",\"metrics\":{\"looks\":%u}}", state->looks);
  return say(reply, LBEX_OK, text);
}

static int32_t stop(void *ctx, uint32_t drain_ms, uint32_t timeout_ms, struct lbex_buf *reply) {
  int32_t code;
  (void)drain_ms;
  (void)timeout_ms;
  return wrong(ctx, "stop", "", reply, &code) ? code : LBEX_OK;
}

static void cancel(void *ctx) {
  struct state *state = ctx;
  while (does(state, "cancel", "hang")) nap(2);
  state->cancelled = 1;
}

static void info_buf_free(struct lbex_buf *buf) { free(buf->data); }

/* Leaves a file where a reply as large as none may be is given back. */
static void backend_buf_free(void *ctx, struct lbex_buf *buf) {
  const struct state *state = ctx;
  char path[4200];
  FILE *file;
  snprintf(path, sizeof path, "%s/freed", state->folder);
  if (buf->len > LBEX_MAX_DOCUMENT && (file = fopen(path, "we")) != NULL) fclose(file);
  free(buf->data);
}

static void close_backend(void *ctx) {
  struct state *state = ctx;
  while (does(state, "close", "hang")) nap(2);
  store_clear(&state->serves);
  free(state);
}

static void fill_table(struct state *state, const struct lbex_backend **backend) {
  state->table = (struct lbex_backend){sizeof state->table, 0, state, apply, observe, cancel, backend_buf_free, close_backend, stop};
  *backend = &state->table;
  if (does(state, "table", "none")) *backend = NULL;
  if (does(state, "table", "small")) state->table.size = 16;
  if (does(state, "table", "nowhere")) *backend = (const struct lbex_backend *)(uintptr_t)4096;
  if (does(state, "table", "apply")) state->table.apply = NULL;
  /* As of ABI 1.0: what is behind the size is not there, whatever it is. */
  if (does(state, "table", "old")) {
    state->table.size = (uint32_t)offsetof(struct lbex_backend, stop);
    memset((char *)&state->table + state->table.size, 0x5a, sizeof state->table - state->table.size);
  }
}

#ifdef FAULT_NO_OPEN
#define lbex_plugin_open another_name
#endif

LBEX_EXPORT int32_t lbex_plugin_open(const struct lbex_host *host, const uint8_t *settings, size_t settings_len,
                                     const struct lbex_backend **backend, struct lbex_buf *reply) {
  static char last[256];
  struct state *state = calloc(1, sizeof *state);
  char *json = copied(settings, settings_len);
  int32_t code = LBEX_OK;
  text_of(member(json, "state_dir"), state->folder, sizeof state->folder);
  text_of(member(json, "config"), state->config, sizeof state->config);
  state->config[strcspn(state->config, "\\")] = 0;
  free(json);
  state->host = host;
  if (wrong(state, "open", "", reply, &code)) {
    if (code == LBEX_OK) fill_table(state, backend);
    else free(state);
    return code;
  }
  if (does(state, "open", "remembers")) memcpy(state->revision, last, sizeof last), memcpy(last, "check-1", 8);
  fill_table(state, backend);
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
