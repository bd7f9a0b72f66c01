/* As much of JSON as the faulty plugin needs: objects without white space, as LBEX writes them, in text that ends with a zero. */
#ifndef JSON_H
#define JSON_H

#include <stdlib.h>
#include <string.h>

/* Part of a text. */
struct span {
  const char *at;
  size_t len;
};

/* Behind the text in quotes that begins at `at`; NULL: it does not end. */
static const char *text_end(const char *at) {
  for (at++; *at != '"'; at++) {
    if (*at == '\\') at++;
    if (*at == 0) return NULL;
  }
  return at + 1;
}

/* Behind the value that begins at `at`; NULL: it does not end. */
static const char *value_end(const char *at) {
  size_t depth = 0;
  while (*at != 0) {
    if (*at == '"') at = text_end(at);
    else if (*at == '{' || *at == '[') depth++, at++;
    else if (*at == '}' || *at == ']') depth--, at++;
    else at += depth > 0 ? 1 : strcspn(at, ",}]");
    if (at == NULL || depth == 0) return at;
  }
  return NULL;
}

/* Goes through an object: `at` is its first brace, then what the call before answered. NULL: there is no more. */
static const char *next_member(const char *at, struct span *name, struct span *value) {
  const char *end;
  if ((*at != '{' && *at != ',') || at[1] != '"' || (end = text_end(at + 1)) == NULL || *end != ':') return NULL;
  name->at = at + 2;
  name->len = (size_t)(end - at) - 3;
  value->at = end + 1;
  if ((end = value_end(value->at)) == NULL) return NULL;
  value->len = (size_t)(end - value->at);
  return end;
}

/* A member of an object; its `at` is NULL where there is none. */
static struct span member(const char *object, const char *wanted) {
  struct span name, value, none = {NULL, 0};
  while ((object = next_member(object, &name, &value)) != NULL)
    if (name.len == strlen(wanted) && memcmp(name.at, wanted, name.len) == 0) return value;
  return none;
}

/* Copies a text without its quotes; how long it is, 0 where it is none, or too long. */
static size_t text_of(struct span value, char *out, size_t room) {
  out[0] = 0;
  if (value.at == NULL || value.len < 2 || *value.at != '"' || value.len - 2 >= room) return 0;
  memcpy(out, value.at + 1, value.len - 2);
  out[value.len - 2] = 0;
  return value.len - 2;
}

static int is(struct span value, const char *text) {
  return value.at != NULL && value.len == strlen(text) && memcmp(value.at, text, value.len) == 0;
}

static char *copied(const void *bytes, size_t len) {
  char *copy = malloc(len + 1);
  memcpy(copy, bytes, len);
  copy[len] = 0;
  return copy;
}

#endif
