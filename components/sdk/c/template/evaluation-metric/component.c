// Exact match: the share of answers that are one of their references, but for white space at the ends.

#include "evaluation_metric.h"

#include <stdlib.h>
#include <string.h>

typedef evaluation_metric_string_t string_t;

void exports_espalier_policy_metric_describe(exports_espalier_policy_metric_identity_t *identity) {
  evaluation_metric_string_dup(&identity->name, "{{name}}");
  evaluation_metric_string_dup(&identity->version, "0.1.0");
  evaluation_metric_string_dup(&identity->summary, "{{summary}}");
}

static bool is_space(uint8_t byte) {
  return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

// The same bytes without white space at the ends.
static string_t trimmed(string_t text) {
  while (text.len > 0 && is_space(text.ptr[0])) text.ptr++, text.len--;
  while (text.len > 0 && is_space(text.ptr[text.len - 1])) text.len--;
  return text;
}

static bool is_one_of(string_t answer, const string_t *references, size_t count) {
  answer = trimmed(answer);
  for (size_t index = 0; index < count; index++) {
    string_t reference = trimmed(references[index]);
    if (reference.len == answer.len && memcmp(reference.ptr, answer.ptr, answer.len) == 0) return true;
  }
  return false;
}

// The words of a refusal by the host; they are at the same place in every case.
static bool refused(espalier_kernels_samples_error_t refusal, string_t *error) {
  *error = refusal.val.unavailable;
  return false;
}

bool exports_espalier_policy_metric_evaluate(exports_espalier_policy_metric_list_measurement_t *measurements,
                                             string_t *error) {
  uint32_t count = espalier_kernels_samples_count();
  if (count == 0) {
    evaluation_metric_string_dup(error, "the data has no samples, expected prompts with references");
    return false;
  }
  uint32_t right = 0;
  for (uint32_t index = 0; index < count; index++) {
    espalier_kernels_samples_error_t refusal;
    string_t answer;
    espalier_kernels_samples_sample_t sample;
    // The model's answer, or the one that the data gives.
    if (!espalier_kernels_samples_answer(index, &answer, &refusal)) return refused(refusal, error);
    if (!espalier_kernels_samples_get(index, &sample, &refusal)) {
      evaluation_metric_string_free(&answer);
      return refused(refusal, error);
    }
    if (is_one_of(answer, sample.references.ptr, sample.references.len)) right++;
    espalier_kernels_samples_sample_free(&sample);
    evaluation_metric_string_free(&answer);
  }
  measurements->ptr = malloc(sizeof *measurements->ptr);
  if (measurements->ptr == NULL) abort();
  measurements->len = 1;
  evaluation_metric_string_dup(&measurements->ptr[0].name, "exact-match");
  measurements->ptr[0].value = (double)right / count;
  measurements->ptr[0].standard_error.is_some = false;
  return true;
}
