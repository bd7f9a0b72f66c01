/* What the faulty plugin serves: Services by name, each as the text that LBEX sent; and the file `serves.json`, which says so to tests. */
#ifndef STORE_H
#define STORE_H

#include "json.h"

#include <stdio.h>

struct service {
  char *name, *value;
};

/* In the order of names. */
struct store {
  struct service *all;
  size_t count, room;
};

static void store_clear(struct store *store) {
  size_t i;
  for (i = 0; i < store->count; i++) free(store->all[i].name), free(store->all[i].value);
  free(store->all);
  memset(store, 0, sizeof *store);
}

/* Puts a Service in, or out where its value is null. Whether that changes anything. */
static int store_put(struct store *store, struct span name, struct span value) {
  size_t low = 0, high = store->count;
  char *key = copied(name.at, name.len);
  int found = 0;
  while (low < high && !found) {
    size_t middle = (low + high) / 2;
    int order = strcmp(store->all[middle].name, key);
    if (order < 0) low = middle + 1;
    else high = middle, found = order == 0;
  }
  if (found) {
    struct service *service = &store->all[high];
    free(key);
    if (is(value, service->value)) return 0;
    free(service->value);
    service->value = copied(value.at, value.len);
    if (!is(value, "null")) return 1;
    free(service->name), free(service->value);
    memmove(service, service + 1, (--store->count - high) * sizeof *service);
    return 1;
  }
  if (is(value, "null")) {
    free(key);
    return 0;
  }
  if (store->count == store->room) {
    store->room = 2 * store->room + 64;
    store->all = realloc(store->all, store->room * sizeof *store->all);
  }
  memmove(store->all + low + 1, store->all + low, (store->count++ - low) * sizeof *store->all);
  store->all[low].name = key;
  store->all[low].value = copied(value.at, value.len);
  return 1;
}

/* Puts in what a document has. Whether that changes anything. */
static int store_take(struct store *store, struct span services) {
  struct span name, value;
  const char *at = services.at;
  int changed = 0;
  while (at != NULL && (at = next_member(at, &name, &value)) != NULL) changed |= store_put(store, name, value);
  return changed;
}

static int store_same(const struct store *a, const struct store *b) {
  size_t i;
  if (a->count != b->count) return 0;
  for (i = 0; i < a->count; i++)
    if (strcmp(a->all[i].name, b->all[i].name) != 0 || strcmp(a->all[i].value, b->all[i].value) != 0) return 0;
  return 1;
}

/* By rename: who reads it finds a whole one. */
static void store_write(const struct store *store, const char *folder, const char *revision) {
  char path[4200], next[4200];
  size_t i;
  FILE *file;
  snprintf(path, sizeof path, "%s/serves.json", folder);
  snprintf(next, sizeof next, "%s/serves.next", folder);
  if ((file = fopen(next, "we")) == NULL) return;
  fprintf(file, "{\"revision\":\"%s\",\"services\":{", revision);
  for (i = 0; i < store->count; i++) fprintf(file, "%s\"%s\":%s", i > 0 ? "," : "", store->all[i].name, store->all[i].value);
  fputs("}}", file);
  if (fclose(file) == 0) rename(next, path);
}

#endif
