/*
** lbex_plugin.h: the interface between LBEX and a backend that is a shared library.
**
** As of ABI 1.1, and not to be changed: plugins that were built with it have to load.
**
** LBEX watches a Kubernetes cluster and works out what a proxy on this host
** should serve: listeners, and the servers behind each. A backend makes a proxy
** serve that, and reports. This header is all that a backend needs to know of
** LBEX; it wants nothing but C99.
**
** A plugin is a shared library that exports two functions:
**
**     lbex_plugin_query()    says what it is, without doing anything
**     lbex_plugin_open()     opens a backend: a table of functions
**
** What crosses, besides numbers and pointers, are JSON documents in UTF-8. Each
** has a member "schema" that names what it is:
**
**     lbex.settings/1        LBEX -> plugin    lbex_plugin_open
**     lbex.desired/1         LBEX -> plugin    apply: everything
**     lbex.delta/1           LBEX -> plugin    apply: what changed
**     lbex.report/1          plugin -> LBEX    apply's reply
**     lbex.observation/1     plugin -> LBEX    observe's reply
**     lbex.capabilities/1    plugin -> LBEX    lbex_plugin_info, lbex_plugin_open's reply
**
** plugins/schemas holds a JSON Schema of each; every member is described there.
**
**
** VERSIONS
**
** The interface has a major and a minor version. LBEX refuses a plugin of another
** major version, and loads one of any minor version, older or newer than its own:
**
**   * Tables grow at their tail, by a minor version each time, and say how large
**     they are. Nobody reads beyond what the other side wrote. What is not there
**     counts as NULL. A function that this header calls optional may be NULL.
**   * Documents grow by members. Whoever reads ignores members that it does not
**     know, and must not take their order to mean anything. A member that a
**     document's schema calls optional may be absent.
**   * Where a member is one word of several, LBEX sends no word that the plugin's
**     capabilities do not name.
**   * Return codes: LBEX treats a code that it does not know as LBEX_PANIC.
**
** So a plugin that is built today loads in every LBEX with LBEX_ABI_MAJOR 1, and
** need not be built again. One that wants what only a later minor version has
** looks at lbex_host.size before it uses it.
**
**
** THREADS
**
** LBEX has one thread for each plugin, and calls every function of it on that
** thread, one at a time: lbex_plugin_query, lbex_plugin_open, apply, observe,
** stop, buf_free and close. The one exception is cancel, which comes from another
** thread while apply, observe or stop is in progress.
**
** LBEX has at most one backend of a plugin open at any time, and opens another
** only after close has returned. The library itself is never unloaded.
**
** A plugin may have threads of its own, and may call the functions of lbex_host on
** all of them. It must not change the process as a whole: no signal handlers, no
** change of the working directory, the environment, the umask or the user, no
** exit(), no fork() without exec(), no waiting for children that are not its own.
** Descriptors that it opens are close-on-exec.
**
**
** OWNERSHIP
**
** Whoever allocates frees. What LBEX hands over (documents, tables) is LBEX's: it
** stays as it is until the call returns, and lbex_host for as long as the process
** lives. What a plugin hands over in a struct lbex_buf stays as it is until LBEX
** gives it back with buf_free, which it does once for each buffer that is not
** empty, before it calls anything else. A plugin need not free a buffer that is
** empty (data is NULL).
**
** No function may let a C++ exception, a Rust panic or a longjmp out.
**
**
** TIME
**
** apply, observe and stop get the time that they have, in milliseconds. When it is
** over LBEX calls cancel, and waits a little longer. A call that still does not
** return makes the backend a failed one: LBEX says so, goes on with all else, and
** calls nothing of the plugin until that call has returned. Its reply is then
** ignored, the backend is closed, and another is opened.
**
**
** FAILURES
**
** A reply that is no document of the right schema, that is about another revision,
** that is larger than LBEX_MAX_DOCUMENT or that does not lie in readable memory, an
** unknown code, LBEX_PANIC: each closes the backend. LBEX opens another after a
** pause that grows from 0.5 s to 30 s, and sends it the whole desired state. The
** proxy should go on serving meanwhile, as it should when LBEX ends.
*/
#ifndef LBEX_PLUGIN_H
#define LBEX_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What lbex_plugin_info.magic has to be. */
#define LBEX_PLUGIN_MAGIC UINT64_C(0x4C424558504C5547)

/* The version of this header. */
#define LBEX_ABI_MAJOR 1
#define LBEX_ABI_MINOR 1

/* The largest reply that LBEX takes, in bytes: 64 MiB. */
#define LBEX_MAX_DOCUMENT ((size_t)64 << 20)

/*
** RETURN CODES
**
** of lbex_plugin_open, apply, observe and stop. After LBEX_OK and LBEX_PARTIAL the
** reply is a document. After every other code it is text for people: why, one line
** of UTF-8, not terminated by a zero; an empty reply is allowed, and unkind.
*/
#define LBEX_OK 0           /* Done. */
#define LBEX_PARTIAL 1      /* apply: done, but for the Services that the report refuses. */
#define LBEX_RETRY 2        /* Not done; the same again may succeed: LBEX tries, with growing pauses. */
#define LBEX_INVALID 3      /* Not done; the same again will fail: LBEX waits for the next change. */
#define LBEX_UNSUPPORTED 4  /* Not done: the plugin does not do such a thing. */
#define LBEX_RESYNC 5       /* apply: the plugin has another revision than the delta begins with. */
#define LBEX_PANIC 100      /* The backend is broken: LBEX closes it and opens another. */

/* LOG LEVELS of lbex_host.log. */
#define LBEX_LOG_ERROR 1
#define LBEX_LOG_WARN 2
#define LBEX_LOG_INFO 3
#define LBEX_LOG_DEBUG 4
#define LBEX_LOG_TRACE 5

/*
** BYTES OF THE PLUGIN'S
**
** Where a function has an argument `reply`, LBEX hands over an empty struct
** lbex_buf, which the plugin may fill.
*/
struct lbex_buf {
  uint8_t *data; /* NULL: empty, whatever len says. */
  size_t len;
};

/*
** WHAT LBEX OFFERS
**
** Lives as long as the process. Both functions may be called on any thread, at any
** time, also after close.
*/
struct lbex_host {
  uint32_t size;      /* sizeof(struct lbex_host) of this LBEX. */
  uint16_t abi_major; /* LBEX_ABI_MAJOR of this LBEX. */
  uint16_t abi_minor; /* LBEX_ABI_MINOR of this LBEX. */
  void *ctx;          /* To be handed to the functions below. */

  /*
  ** Logs a line of UTF-8, which needs no terminating zero. LBEX copies it, adds
  ** time and plugin, cuts it after 8 KiB, and leaves lines out where there are
  ** hundreds in a second.
  */
  void (*log)(void *ctx, int32_t level, const char *text, size_t len);

  /*
  ** Asks LBEX to call observe soon, and not only when its next second begins: the
  ** proxy has died, say. Returns at once.
  */
  void (*wake)(void *ctx);
};

/*
** A BACKEND
**
** The plugin's, made by lbex_plugin_open; stays as it is until close has returned.
*/
struct lbex_backend {
  uint32_t size;     /* sizeof(struct lbex_backend) as the plugin was compiled. */
  uint32_t reserved; /* Zero. */
  void *ctx;         /* The plugin's own; LBEX hands it to the functions below. */

  /*
  ** Makes the proxy serve what the document says, starting it if needed, and
  ** returns when the data plane confirms it. The reply is an lbex.report/1.
  **
  ** The document is one of two:
  **
  **   lbex.desired/1   Everything. What the plugin had before no longer counts.
  **
  **   lbex.delta/1     What changed since the revision "from". A plugin that has
  **                    another, or none, changes nothing and returns LBEX_RESYNC:
  **                    LBEX then sends everything. A plugin that does not want
  **                    deltas always returns LBEX_RESYNC.
  **
  ** A plugin has a document's revision after it returned LBEX_OK or LBEX_PARTIAL
  ** for it. After another code it has the one that it had before, and its proxy
  ** should serve what it served before.
  **
  ** The same document again is no error, and neither is a delta without Services:
  ** LBEX asks the plugin to look at its proxy, and to put it right if somebody
  ** else has changed or ended it.
  **
  ** What cannot be served is refused by Service in the report, and does not keep
  ** anything else from being served. The code is then LBEX_PARTIAL.
  **
  ** A delta with "live": true changes nothing but servers, and is to be done at
  ** once and without a reload; connections that exist go on. A plugin that cannot
  ** do so changes nothing and returns LBEX_UNSUPPORTED: the change comes again with
  ** the next delta that is not live. Single Services are refused in the report,
  ** remain as they were, and come again in the same way. Live deltas are sent to
  ** plugins whose capabilities have "live_servers": true only.
  **
  ** Time: 60 s; 5 s for a live delta.
  */
  int32_t (*apply)(void *ctx, const uint8_t *document, size_t document_len,
                   uint32_t timeout_ms, struct lbex_buf *reply);

  /*
  ** Looks at the proxy, and changes nothing. The reply is an lbex.observation/1.
  ** Called every second, but not during an apply. A code other than LBEX_OK says
  ** that nothing could be seen; it counts when it comes several times in a row.
  **
  ** Time: 1 s.
  */
  int32_t (*observe)(void *ctx, uint32_t timeout_ms, struct lbex_buf *reply);

  /*
  ** Asks the call in progress to return soon, with whatever code is true. Comes
  ** from another thread. May come when the call has just returned: then it has no
  ** effect on the next one, which LBEX does not begin before cancel has returned.
  ** Returns at once.
  */
  void (*cancel)(void *ctx);

  /* Frees what a function of this table put into its reply. */
  void (*buf_free)(void *ctx, struct lbex_buf *buf);

  /*
  ** Ends the backend and frees all it has, this table too. The proxy goes on
  ** serving: the next backend, of this LBEX or of another, adopts it.
  */
  void (*close)(void *ctx);

  /* ---- Since 1.1. ---- */

  /*
  ** Optional. Ends the proxy: it takes no new connections, and those that exist
  ** may go on for drain_ms. LBEX calls it where it was told to end its proxy when
  ** it ends (--stop-proxy-on-exit). The reply is empty, or text.
  **
  ** Time: drain_ms and 10 s.
  */
  int32_t (*stop)(void *ctx, uint32_t drain_ms, uint32_t timeout_ms, struct lbex_buf *reply);
};

/*
** WHAT A LIBRARY SAYS OF ITSELF
**
** The plugin's, as all that it points to; stays as it is as long as the process
** lives. The first four members are the same in every version of this interface,
** so that any LBEX can tell any plugin why it does not fit.
*/
struct lbex_plugin_info {
  uint64_t magic;         /* LBEX_PLUGIN_MAGIC */
  uint32_t size;          /* sizeof(struct lbex_plugin_info) */
  uint16_t abi_major;     /* LBEX_ABI_MAJOR */
  uint16_t abi_minor;     /* LBEX_ABI_MINOR */
  uint32_t backend_size;  /* sizeof(struct lbex_backend) */
  uint32_t host_size;     /* sizeof(struct lbex_host) */
  const char *name;       /* 1 to 64 of a-z, 0-9 and '-'; ends with a zero. */
  const char *version;    /* 1 to 64 printable characters; ends with a zero. */

  /*
  ** An lbex.capabilities/1 that ends with a zero: what the plugin can do, as far as
  ** it knows before it looks for its proxy. NULL: the defaults of the schema.
  */
  const char *capabilities;

  /* Frees what lbex_plugin_open put into its reply. NULL where it never does. */
  void (*buf_free)(struct lbex_buf *buf);
};

#if defined(__GNUC__)
#define LBEX_EXPORT __attribute__((visibility("default")))
#else
#define LBEX_EXPORT
#endif

/*
** EXPORTED BY EVERY PLUGIN: says what it is. Does nothing else, and answers the
** same each time.
*/
LBEX_EXPORT const struct lbex_plugin_info *lbex_plugin_query(void);

/*
** EXPORTED BY EVERY PLUGIN: opens a backend.
**
** `settings` is an lbex.settings/1: the folder that is the plugin's own, and what
** the operator's --backend-config FILE holds.
**
** Finds what the proxy needs, and touches nothing that runs. With LBEX_OK `*backend`
** is the backend's table, and the reply is empty, or an lbex.capabilities/1 that
** counts instead of that of lbex_plugin_info: with the version that was found, say.
** With another code the reply says what is missing and what to do about it; an LBEX
** that is just starting ends with that.
**
** Time: 10 s, and there is no cancel yet.
*/
LBEX_EXPORT int32_t lbex_plugin_open(const struct lbex_host *host, const uint8_t *settings,
                                     size_t settings_len, const struct lbex_backend **backend,
                                     struct lbex_buf *reply);

#ifdef __cplusplus
}
#endif

#endif /* LBEX_PLUGIN_H */
