// Activation norm: a head whose output is small on calibration text matters little.
//
// The score of a head is the Euclidean norm over its channels c of
//
//     s_c = sqrt( sum over sequences of ( 1/T * sum over t of |a_t,c| )^2 )
//
// with a the heads' output and T the tokens of a sequence (Minitron, arXiv 2407.14679, section 2.2).

#include "scoring_policy.h"

#include <stdlib.h>

typedef exports_espalier_policy_scoring_job_t job_t;
typedef espalier_kernels_tensor_own_tensor_t tensor_t;
typedef espalier_kernels_types_error_t refusal_t;
typedef scoring_policy_string_t string_t;

// One pass over the calibration text.
struct exports_espalier_policy_scoring_job_t {
  uint32_t head_dim;
  size_t layers;
  // For each layer, whether it was observed, and the sum over the sequences so far of s_c^2, whose values stay in the host.
  bool *is_observed;
  tensor_t *sums;
};

// What the host must record for the policy, and for which kinds of units.
void exports_espalier_policy_scoring_describe(exports_espalier_policy_scoring_description_t *description) {
  scoring_policy_string_dup(&description->identity.name, "{{name}}");
  scoring_policy_string_dup(&description->identity.version, "0.1.0");
  scoring_policy_string_dup(&description->identity.summary, "{{summary}}");
  exports_espalier_policy_scoring_scored_unit_t *unit = malloc(sizeof *unit);
  exports_espalier_policy_scoring_probe_t *probe = malloc(sizeof *probe);
  if (unit == NULL || probe == NULL) abort();
  *probe = ESPALIER_KERNELS_TYPES_PROBE_HEAD_OUTPUT;
  unit->unit = ESPALIER_KERNELS_TYPES_UNIT_HEAD;
  unit->probes = (exports_espalier_policy_scoring_list_probe_t){.ptr = probe, .len = 1};
  unit->ablation = false;
  description->units = (exports_espalier_policy_scoring_list_scored_unit_t){.ptr = unit, .len = 1};
}

bool exports_espalier_policy_scoring_static_job_begin(exports_espalier_policy_scoring_model_shape_t *shape,
                                                      exports_espalier_policy_scoring_list_unit_t *units,
                                                      exports_espalier_policy_scoring_own_job_t *begun,
                                                      string_t *error) {
  (void)error;
  job_t *job = malloc(sizeof *job);
  if (job == NULL) abort();
  job->head_dim = shape->head_dim;
  job->layers = shape->layers.len;
  job->is_observed = calloc(job->layers, sizeof *job->is_observed);
  job->sums = calloc(job->layers, sizeof *job->sums);
  if (job->is_observed == NULL || job->sums == NULL) abort();
  exports_espalier_policy_scoring_model_shape_free(shape);
  exports_espalier_policy_scoring_list_unit_free(units);
  *begun = exports_espalier_policy_scoring_job_new(job);
  return true;
}

void exports_espalier_policy_scoring_job_destructor(job_t *job) {
  for (size_t layer = 0; layer < job->layers; layer++)
    if (job->is_observed[layer]) espalier_kernels_tensor_tensor_drop_own(job->sums[layer]);
  free(job->is_observed);
  free(job->sums);
  free(job);
}

// The words of a refusal by the host; they are at the same place in every case.
static bool refused(refusal_t refusal, string_t *error) {
  *error = refusal.val.unavailable;
  return false;
}

// Adds the squares to the sum of a layer, which begins at 0.
static bool add_squares(job_t *job, uint32_t layer, espalier_kernels_tensor_borrow_tensor_t mean, refusal_t *refusal) {
  if (!job->is_observed[layer]) {
    scoring_policy_list_u32_t shape;
    espalier_kernels_tensor_method_tensor_shape(mean, &shape);
    job->is_observed[layer] = espalier_kernels_tensor_static_tensor_zeros(&shape, &job->sums[layer], refusal);
    scoring_policy_list_u32_free(&shape);
    if (!job->is_observed[layer]) return false;
  }
  return espalier_kernels_tensor_method_tensor_accumulate_squares(espalier_kernels_tensor_borrow_tensor(job->sums[layer]),
                                                                  mean, refusal);
}

// Called for each sequence and layer. The handles of what the host lends are given back here: of the traces, of tensors.
bool exports_espalier_policy_scoring_method_job_observe(job_t *job, uint32_t layer,
                                                        exports_espalier_policy_scoring_borrow_traces_t traces,
                                                        string_t *error) {
  refusal_t refusal;
  tensor_t activations;
  bool is_recorded = espalier_kernels_calibration_method_traces_values(traces, ESPALIER_KERNELS_TYPES_PROBE_HEAD_OUTPUT,
                                                                       &activations, &refusal);
  espalier_kernels_calibration_traces_drop_borrow(traces);
  if (!is_recorded) return refused(refusal, error);
  tensor_t mean = espalier_kernels_tensor_method_tensor_mean_abs(espalier_kernels_tensor_borrow_tensor(activations));
  espalier_kernels_tensor_tensor_drop_own(activations);
  bool is_added = add_squares(job, layer, espalier_kernels_tensor_borrow_tensor(mean), &refusal);
  espalier_kernels_tensor_tensor_drop_own(mean);
  return is_added || refused(refusal, error);
}

// The norm of every head, from the sums of squares of a layer.
static bool head_norms(const job_t *job, uint32_t layer, scoring_policy_list_f32_t *values, refusal_t *refusal) {
  tensor_t heads;
  tensor_t channels =
      espalier_kernels_tensor_method_tensor_square_root(espalier_kernels_tensor_borrow_tensor(job->sums[layer]));
  bool is_grouped = espalier_kernels_tensor_method_tensor_grouped_l2_norm(
      espalier_kernels_tensor_borrow_tensor(channels), job->head_dim, &heads, refusal);
  espalier_kernels_tensor_tensor_drop_own(channels);
  if (!is_grouped) return false;
  bool is_read = espalier_kernels_tensor_method_tensor_read(espalier_kernels_tensor_borrow_tensor(heads), values, refusal);
  espalier_kernels_tensor_tensor_drop_own(heads);
  return is_read;
}

// Called at the end, layer by layer: one number for each head, low goes first.
bool exports_espalier_policy_scoring_method_job_scores(job_t *job, uint32_t layer,
                                                       exports_espalier_policy_scoring_unit_t unit,
                                                       scoring_policy_list_f64_t *scores, string_t *error) {
  (void)unit;
  if (layer >= job->layers || !job->is_observed[layer]) {
    scoring_policy_string_dup(error, "the layer was never observed");
    return false;
  }
  refusal_t refusal;
  scoring_policy_list_f32_t values;
  if (!head_norms(job, layer, &values, &refusal)) return refused(refusal, error);
  scores->len = values.len;
  scores->ptr = malloc(values.len * sizeof *scores->ptr);
  if (scores->ptr == NULL) abort();
  for (size_t head = 0; head < values.len; head++) scores->ptr[head] = values.ptr[head];
  scoring_policy_list_f32_free(&values);
  return true;
}
