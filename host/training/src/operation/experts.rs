//! Products by experts: rows are gathered by expert, multiplied by each expert's own matrix, and mixed again.
//!
//! Which rows belong to whom is a [`Routing`], and is constant as far as gradients are concerned.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use espalier_model::{ExpertRows, Routing};
use rayon::prelude::*;

use super::lanes::{add_scaled, column_sums, dot};
use super::values;

/// The rows of `x [tokens, width]` in the order of the groups: `[tokens · active, width]`.
pub(crate) fn gather(x: &Tensor, routing: &Arc<Routing>) -> Result<Tensor> {
    x.apply_op1(Gather(routing.clone()))
}

/// `x [rows, inputs]`, whose rows are grouped, times the transpose of each expert's `weight [experts, outputs, inputs]`,
/// plus its `bias [experts, outputs]`.
pub(crate) fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    routing: &Arc<Routing>,
) -> Result<Tensor> {
    match bias {
        Some(bias) => x.apply_op3(weight, bias, Affine(Product(routing.clone()))),
        None => x.apply_op2(weight, Product(routing.clone())),
    }
}

/// For each token the sum of its experts' `terms [rows, width]`, each times its weight in `weights [rows]`.
pub(crate) fn mix(terms: &Tensor, weights: &Tensor, routing: &Arc<Routing>) -> Result<Tensor> {
    terms.apply_op2(weights, Mix(routing.clone()))
}

/// The grouped rows of each token, in the order of its experts.
fn rows_of_tokens(routing: &Routing, tokens: usize) -> Vec<Vec<usize>> {
    let mut rows = vec![Vec::new(); tokens];
    for (row, _) in &routing.mixture {
        if let Some(rows) = routing.tokens.get(*row).and_then(|token| rows.get_mut(*token)) {
            rows.push(*row);
        }
    }
    rows
}

struct Gather(Arc<Routing>);

impl CustomOp1 for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = layout.shape().dims2()?;
        let x = values::slice(x, layout)?;
        let mut rows = Vec::with_capacity(self.0.tokens.len() * width);
        for token in &self.0.tokens {
            rows.extend_from_slice(&x[token * width..(token + 1) * width]);
        }
        values::output(rows, (self.0.tokens.len(), width))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (tokens, width) = x.dims2()?;
        let rows = rows_of_tokens(&self.0, tokens);
        let sums = values::read(&gradient.contiguous()?, |gradient| {
            let mut sums = vec![0.0; tokens * width];
            for (sum, rows) in sums.chunks_exact_mut(width).zip(&rows) {
                for row in rows {
                    add_scaled(sum, &gradient[row * width..(row + 1) * width], 1.0);
                }
            }
            Ok(sums)
        })?;
        values::tensor(sums, (tokens, width)).map(Some)
    }
}

struct Product(Arc<Routing>);

impl Product {
    /// What `of_group` gives for each group, in parallel and in the order of the groups.
    fn each_group<T: Send>(
        &self,
        of_group: impl Fn(&ExpertRows) -> Result<T> + Sync + Send,
    ) -> Result<Vec<T>> {
        self.0.groups.par_iter().map(of_group).collect()
    }

    fn forward(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<Vec<f32>> {
        let (rows, inputs) = x_layout.shape().dims2()?;
        let (_, outputs, _) = weight_layout.shape().dims3()?;
        let parts = self.each_group(|group| {
            let x_part = x_layout.narrow(0, group.rows.start, group.rows.len())?;
            let offset = weight_layout.start_offset() + group.expert * outputs * inputs;
            let weight_part = Layout::contiguous_with_offset((outputs, inputs), offset).transpose(0, 1)?;
            x.matmul(weight, (1, group.rows.len(), outputs, inputs), &x_part, &weight_part)
        })?;
        let mut product = Vec::with_capacity(rows * outputs);
        for part in &parts {
            product.extend_from_slice(part.as_slice::<f32>()?);
        }
        Ok(product)
    }

    fn gradients(
        &self,
        x: &Tensor,
        weight: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (rows, inputs) = x.dims2()?;
        let (experts, outputs, _) = weight.dims3()?;
        let (wants_x, wants_weight) = (x.track_op(), weight.track_op());
        let (x, weight, gradient) = (x.detach(), weight.detach(), gradient.detach());
        let parts = self.each_group(|group| {
            let of_group = gradient.narrow(0, group.rows.start, group.rows.len())?;
            let of_x = if wants_x { Some(of_group.matmul(&weight.get(group.expert)?)?) } else { None };
            let x = x.narrow(0, group.rows.start, group.rows.len())?;
            let of_weight = if wants_weight { Some(of_group.t()?.matmul(&x)?) } else { None };
            Ok((of_x, of_weight))
        })?;
        let mut of_x = Vec::with_capacity(if wants_x { rows * inputs } else { 0 });
        let mut of_weight = vec![0.0; if wants_weight { experts * outputs * inputs } else { 0 }];
        for (group, (x_part, weight_part)) in self.0.groups.iter().zip(&parts) {
            if let Some(part) = x_part {
                values::read(part, |part| {
                    of_x.extend_from_slice(part);
                    Ok(())
                })?;
            }
            if let Some(part) = weight_part {
                let start = group.expert * outputs * inputs;
                let place = &mut of_weight[start..start + outputs * inputs];
                values::read(part, |part| {
                    place.copy_from_slice(part);
                    Ok(())
                })?;
            }
        }
        let of_x = if wants_x { Some(values::tensor(of_x, (rows, inputs))?) } else { None };
        let of_weight =
            if wants_weight { Some(values::tensor(of_weight, (experts, outputs, inputs))?) } else { None };
        Ok((of_x, of_weight))
    }
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "linear-of-experts"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let product = self.forward(x, x_layout, weight, weight_layout)?;
        values::output(product, (x_layout.dims()[0], weight_layout.dims()[1]))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(x, weight, gradient)
    }
}

struct Affine(Product);

impl CustomOp3 for Affine {
    fn name(&self) -> &'static str {
        "linear-of-experts-with-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut sums = self.0.forward(x, x_layout, weight, weight_layout)?;
        let (bias, outputs) = (values::slice(bias, bias_layout)?, weight_layout.dims()[1]);
        for group in &self.0.0.groups {
            let bias = &bias[group.expert * outputs..(group.expert + 1) * outputs];
            for row in sums[group.rows.start * outputs..group.rows.end * outputs].chunks_exact_mut(outputs) {
                add_scaled(row, bias, 1.0);
            }
        }
        values::output(sums, (x_layout.dims()[0], outputs))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (of_x, of_weight) = self.0.gradients(x, weight, gradient)?;
        if !bias.track_op() {
            return Ok((of_x, of_weight, None));
        }
        let (experts, outputs) = bias.dims2()?;
        let sums = values::read(&gradient.contiguous()?, |gradient| {
            let mut sums = vec![0.0; experts * outputs];
            for group in &self.0.0.groups {
                let rows = &gradient[group.rows.start * outputs..group.rows.end * outputs];
                let place = &mut sums[group.expert * outputs..(group.expert + 1) * outputs];
                place.copy_from_slice(&column_sums(rows, outputs));
            }
            Ok(sums)
        })?;
        Ok((of_x, of_weight, Some(values::tensor(sums, (experts, outputs))?)))
    }
}

struct Mix(Arc<Routing>);

impl CustomOp2 for Mix {
    fn name(&self) -> &'static str {
        "mix-experts"
    }

    fn cpu_fwd(
        &self,
        terms: &CpuStorage,
        terms_layout: &Layout,
        weights: &CpuStorage,
        weights_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = terms_layout.shape().dims2()?;
        let (terms, weights) = (values::slice(terms, terms_layout)?, values::slice(weights, weights_layout)?);
        let tokens = self.0.tokens.iter().max().map_or(0, |last| last + 1);
        let of_tokens = rows_of_tokens(&self.0, tokens);
        debug_assert_eq!(rows, self.0.tokens.len(), "every row belongs to a token");
        let mut mixed = vec![0.0; tokens * width];
        mixed.par_chunks_exact_mut(width.max(1)).zip(&of_tokens).with_min_len(16).for_each(|(sum, rows)| {
            for row in rows {
                add_scaled(sum, &terms[row * width..(row + 1) * width], weights[*row]);
            }
        });
        values::output(mixed, (tokens, width))
    }

    fn bwd(
        &self,
        terms: &Tensor,
        weights: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (rows, width) = terms.dims2()?;
        let (of_terms, of_weights) = values::read(terms, |terms| {
            values::read(weights, |weights| {
                values::read(&gradient.contiguous()?, |gradient| {
                    let mut of_terms = vec![0.0; rows * width];
                    let mut of_weights = vec![0.0; rows];
                    let parts =
                        of_terms.par_chunks_exact_mut(width.max(1)).zip(&mut of_weights).zip(&self.0.tokens);
                    parts.with_min_len(16).enumerate().for_each(|(row, ((out, of_weight), token))| {
                        let gradient = &gradient[token * width..(token + 1) * width];
                        add_scaled(out, gradient, weights[row]);
                        *of_weight = dot(gradient, &terms[row * width..(row + 1) * width]);
                    });
                    Ok((of_terms, of_weights))
                })
            })
        })?;
        Ok((Some(values::tensor(of_terms, (rows, width))?), Some(values::tensor(of_weights, rows)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_gradient::{assert_gradients, wave};
    use super::*;

    /// Three tokens, two of four experts each; expert 1 has none.
    fn routing() -> Arc<Routing> {
        let logits = [[9.0, 0.0, 8.0, 1.0], [0.0, -1.0, 9.0, 8.0], [5.0, 0.0, 0.5, 6.0]].concat();
        Arc::new(Routing::new(&logits, 4, 2))
    }

    #[test]
    fn gradients_are_those_of_small_differences() {
        let routing = routing();
        assert_gradients(&[wave(&[3, 5], 1)], |inputs| gather(&inputs[0], &routing).unwrap());
        assert_gradients(&[wave(&[6, 3], 1), wave(&[6], 2)], |inputs| {
            mix(&inputs[0], &inputs[1], &routing).unwrap()
        });
        assert_gradients(&[wave(&[6, 3], 1), wave(&[4, 2, 3], 2), wave(&[4, 2], 3)], |inputs| {
            linear(&inputs[0], &inputs[1], Some(&inputs[2]), &routing).unwrap()
        });
    }
}
