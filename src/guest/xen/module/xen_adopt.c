// SPDX-License-Identifier: LGPL-2.1-or-later
// xen-adopt get DOMID NAME            prints what libxl or xl keeps of a domain
// xen-adopt put DOMID NAME=FILE...    has them keep it of this one
// xen-adopt create FILE               builds and runs a domain of such a configuration; prints its
// number NAME is "libxl-json", the domain's configuration, or "xl", the text that xl created it
// from. By this a domain that libft built on the backup becomes one that `xl list -l`, `xl save`
// and xen-end-duty know. A process of its own, because libxl forks and takes SIGCHLD.
#include <inttypes.h>
#include <libxl.h>
#include <libxl_utils.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xentoollog.h>

#define TEXT_BYTES_MAX (256u << 10)
static const char kJson[] = "libxl-json", kFile[] = "xl";

static int fail(const char* what, const char* of) {
  fprintf(stderr, "xen-adopt: %s: %s\n", of, what);
  return 1;
}

static bool is_json(const char* name) { return strcmp(name, kJson) == 0; }

// The configuration as it is now, with devices that were attached since.
static char* current_json(libxl_ctx* ctx, uint32_t domain) {
  char* text = NULL;
  libxl_domain_config config;
  libxl_domain_config_init(&config);
  if (libxl_retrieve_domain_configuration(ctx, domain, &config, NULL) == 0)
    text = libxl_domain_config_to_json(ctx, &config);
  libxl_domain_config_dispose(&config);
  return text;
}

static int get(libxl_ctx* ctx, uint32_t domain, const char* name) {
  if (is_json(name)) {
    char* text = current_json(ctx, domain);
    if (text == NULL) return fail("libxl has no configuration of this domain", name);
    const bool said = fputs(text, stdout) >= 0 && fflush(stdout) == 0;
    free(text);
    return said ? 0 : fail("cannot be printed", name);
  }
  uint8_t* data = NULL;
  int length = 0;
  if (libxl_userdata_retrieve(ctx, domain, name, &data, &length) != 0 || length <= 0)
    return fail("there is none of this domain", name);
  const bool said =
      fwrite(data, 1, (size_t)length, stdout) == (size_t)length && fflush(stdout) == 0;
  free(data);
  return said ? 0 : fail("cannot be printed", name);
}

// As libxl writes it, so that what another host said is known to be a configuration, of this
// domain.
static char* own_json(libxl_ctx* ctx, uint32_t domain, const char* text) {
  char* own = NULL;
  libxl_dominfo info;
  libxl_dominfo_init(&info);
  libxl_domain_config config;
  libxl_domain_config_init(&config);
  if (libxl_domain_info(ctx, &info, domain) == 0 &&
      libxl_domain_config_from_json(ctx, &config, text) == 0) {
    libxl_uuid_copy(ctx, &config.c_info.uuid, &info.uuid);
    own = libxl_domain_config_to_json(ctx, &config);
  }
  libxl_domain_config_dispose(&config);
  libxl_dominfo_dispose(&info);
  return own;
}

// What libxl stores ends with its zero.
static char* text_of(const char* path) {
  FILE* file = fopen(path, "re");
  char* text = file == NULL ? NULL : calloc(1, TEXT_BYTES_MAX + 1);
  size_t length = text == NULL ? 0 : fread(text, 1, TEXT_BYTES_MAX + 1, file);
  if (file != NULL) fclose(file);
  if (length > 0 && text[length - 1] == '\0') --length;
  if (length > 0 && length <= TEXT_BYTES_MAX && strlen(text) == length) return text;
  free(text);
  return NULL;
}

static int put(libxl_ctx* ctx, uint32_t domain, char* entry) {
  char* path = strchr(entry, '=');
  if (path == NULL) return fail("no NAME=FILE", entry);
  *path++ = '\0';
  if (!is_json(entry) && strcmp(entry, kFile) != 0) return fail("nobody reads it", entry);
  char* text = text_of(path);
  if (text == NULL) return fail("no text, or too long", path);
  int rc = 0;
  if (is_json(entry)) {
    char* own = own_json(ctx, domain, text);
    free(text);
    text = own;
    if (text == NULL) return fail("libxl does not take it for a domain's configuration", entry);
  }
  // libxl keeps the end of its own as well.
  const int length = (int)strlen(text) + (is_json(entry) ? 1 : 0);
  if (libxl_userdata_store(ctx, domain, entry, (const uint8_t*)text, length) != 0)
    rc = fail("libxl does not store it", entry);
  free(text);
  return rc;
}

static int create(libxl_ctx* ctx, const char* path) {
  char* text = text_of(path);
  if (text == NULL) return fail("no text, or too long", path);
  uint32_t domain = 0;
  const char* why = NULL;
  libxl_domain_config config;
  libxl_domain_config_init(&config);
  if (libxl_domain_config_from_json(ctx, &config, text) != 0)
    why = "libxl does not take it for a domain's configuration";
  else if (libxl_domain_create_new(ctx, &config, &domain, NULL, NULL) != 0)
    why = "libxl does not build it";
  else if (libxl_domain_unpause(ctx, domain, NULL) != 0)
    why = "it was built, and does not run";
  libxl_domain_config_dispose(&config);
  free(text);
  if (why != NULL) return fail(why, path);
  printf("%" PRIu32 "\n", domain);
  return fflush(stdout) == 0 ? 0 : 1;
}

static int usage(void) {
  fprintf(stderr,
          "usage: xen-adopt get DOMID libxl-json|xl\n"
          "       xen-adopt put DOMID NAME=FILE...\n"
          "       xen-adopt create FILE\n");
  return 2;
}

int main(int argc, char** argv) {
  const bool creating = argc == 3 && strcmp(argv[1], "create") == 0;
  const bool getting = argc == 4 && strcmp(argv[1], "get") == 0;
  const bool putting = argc >= 4 && strcmp(argv[1], "put") == 0;
  if (!creating && !getting && !putting) return usage();
  char* end = NULL;
  const unsigned long number = creating ? 0 : strtoul(argv[2], &end, 10);
  if (!creating && (number == 0 || number > UINT16_MAX || *end != '\0')) return usage();
  const uint32_t domain = (uint32_t)number;

  xentoollog_logger* log = (xentoollog_logger*)xtl_createlogger_stdiostream(stderr, XTL_ERROR, 0);
  libxl_ctx* ctx = NULL;
  if (log == NULL || libxl_ctx_alloc(&ctx, LIBXL_VERSION, 0, log) != 0)
    return fail("libxl cannot be used: is this a dom0, and are you root?", argv[1]);
  int rc = 0;
  if (creating) rc = create(ctx, argv[2]);
  if (getting) rc = get(ctx, domain, argv[3]);
  for (int i = 3; putting && i < argc; ++i) rc |= put(ctx, domain, argv[i]);
  libxl_ctx_free(ctx);
  xtl_logger_destroy(log);
  return rc;
}
