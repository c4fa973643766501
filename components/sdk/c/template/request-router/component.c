// Least busy: the variant with the fewest requests answers; of equals, the first.

#include "request_router.h"

#include <stdlib.h>
#include <string.h>

typedef exports_espalier_policy_routing_variant_status_t variant_status_t;

void exports_espalier_policy_routing_describe(exports_espalier_policy_routing_identity_t *identity) {
  request_router_string_dup(&identity->name, "{{name}}");
  request_router_string_dup(&identity->version, "0.1.0");
  request_router_string_dup(&identity->summary, "{{summary}}");
}

// What the operator sets with `--set KEY=VALUE`. A setting that the router does not know must be refused.
bool exports_espalier_policy_routing_configure(exports_espalier_policy_routing_list_setting_t *settings,
                                               request_router_string_t *error) {
  bool is_known = settings->len == 0;
  if (!is_known) {
    // The libc's printf would need files.
    static const char before[] = "found the setting \"", after[] = "\", expected none";
    request_router_string_t key = settings->ptr[0].key;
    char *text = malloc(sizeof before + key.len + sizeof after);
    if (text == NULL) abort();
    strcpy(text, before);
    memcpy(text + strlen(before), key.ptr, key.len);
    strcpy(text + strlen(before) + key.len, after);
    request_router_string_dup(error, text);
    free(text);
  }
  exports_espalier_policy_routing_list_setting_free(settings);
  return is_known;
}

static uint64_t requests(const variant_status_t *variant) {
  return (uint64_t)variant->running + variant->waiting;
}

// Indices of variants in the order in which they are tried.
bool exports_espalier_policy_routing_route(exports_espalier_policy_routing_request_t *request,
                                           exports_espalier_policy_routing_list_variant_status_t *variants,
                                           exports_espalier_policy_routing_choice_t *choice,
                                           request_router_string_t *error) {
  (void)error;
  uint32_t *order = malloc(variants->len * sizeof *order);
  if (order == NULL) abort();
  // Insertion keeps equals in their order, so the first stays first.
  for (size_t index = 0; index < variants->len; index++) {
    size_t place = index;
    for (; place > 0 && requests(&variants->ptr[order[place - 1]]) > requests(&variants->ptr[index]); place--)
      order[place] = order[place - 1];
    order[place] = (uint32_t)index;
  }
  choice->order.ptr = order;
  choice->order.len = variants->len;
  choice->shadow.is_some = false;
  exports_espalier_policy_routing_request_free(request);
  exports_espalier_policy_routing_list_variant_status_free(variants);
  return true;
}
