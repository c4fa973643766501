//! From rows of heads side by side to heads of rows, and back; on the way there queries and keys are rotated.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::values;

/// Cosines and sines of the rotary position embedding, each `[positions, head_dim / 2]` and times YaRN's factor.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    pub(crate) cosines: Vec<f32>,
    pub(crate) sines: Vec<f32>,
}

/// How many heads of how many sequences there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadShape {
    pub(crate) sequences: usize,
    pub(crate) positions: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
}

impl HeadShape {
    fn split(self) -> Shape {
        (self.sequences, self.heads, self.positions, self.head_dim).into()
    }

    fn merged(self) -> Shape {
        (self.sequences * self.positions, self.heads * self.head_dim).into()
    }
}

/// `x [sequences · positions, heads · head_dim]` as `[sequences, heads, positions, head_dim]`, rotated by position.
pub(crate) fn split(x: &Tensor, shape: HeadShape, rotation: Option<&Arc<Rotation>>) -> Result<Tensor> {
    x.apply_op1(Split { shape, rotation: rotation.cloned() })
}

/// The way back, without a rotation.
pub(crate) fn merge(x: &Tensor, shape: HeadShape) -> Result<Tensor> {
    x.apply_op1(Merge { shape })
}

struct Split {
    shape: HeadShape,
    rotation: Option<Arc<Rotation>>,
}

impl CustomOp1 for Split {
    fn name(&self) -> &'static str {
        "split-heads"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let split = self.shape.split_rows(values::slice(x, layout)?, |row, position| {
            if let Some(rotation) = &self.rotation {
                rotation.turn(row, position, 1.0);
            }
        });
        values::output(split, self.shape.split())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let merged = values::read(&gradient.contiguous()?, |gradient| {
            Ok(self.shape.merge_rows(gradient, |row, position| {
                if let Some(rotation) = &self.rotation {
                    // The transpose of a rotation turns back.
                    rotation.turn(row, position, -1.0);
                }
            }))
        })?;
        values::tensor(merged, self.shape.merged()).map(Some)
    }
}

struct Merge {
    shape: HeadShape,
}

impl CustomOp1 for Merge {
    fn name(&self) -> &'static str {
        "merge-heads"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        values::output(self.shape.merge_rows(values::slice(x, layout)?, |_, _| {}), self.shape.merged())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let split =
            values::read(&gradient.contiguous()?, |gradient| Ok(self.shape.split_rows(gradient, |_, _| {})))?;
        values::tensor(split, self.shape.split()).map(Some)
    }
}

impl HeadShape {
    /// Copies one head's row after the other and lets `change` see each with its position.
    fn split_rows(self, x: &[f32], change: impl Fn(&mut [f32], usize) + Sync) -> Vec<f32> {
        let Self { positions, heads, head_dim, .. } = self;
        let mut split = vec![0.0; x.len()];
        split.par_chunks_exact_mut((positions * head_dim).max(1)).enumerate().for_each(|(index, rows)| {
            let (sequence, head) = (index / heads, index % heads);
            for (position, row) in rows.chunks_exact_mut(head_dim).enumerate() {
                let start = ((sequence * positions + position) * heads + head) * head_dim;
                row.copy_from_slice(&x[start..start + head_dim]);
                change(row, position);
            }
        });
        split
    }

    fn merge_rows(self, x: &[f32], change: impl Fn(&mut [f32], usize) + Sync) -> Vec<f32> {
        let Self { positions, heads, head_dim, .. } = self;
        let mut merged = vec![0.0; x.len()];
        merged.par_chunks_exact_mut((heads * head_dim).max(1)).with_min_len(16).enumerate().for_each(
            |(index, row)| {
                let (sequence, position) = (index / positions, index % positions);
                for (head, part) in row.chunks_exact_mut(head_dim).enumerate() {
                    let start = ((sequence * heads + head) * positions + position) * head_dim;
                    part.copy_from_slice(&x[start..start + head_dim]);
                    change(part, position);
                }
            },
        );
        merged
    }
}

impl Rotation {
    /// Turns dimension i with dimension i + d/2, forwards or backwards.
    fn turn(&self, row: &mut [f32], position: usize, direction: f32) {
        let half = row.len() / 2;
        let (first, second) = row.split_at_mut(half);
        let angles = position * half..(position + 1) * half;
        let cosines = self.cosines.get(angles.clone()).unwrap_or_default();
        let sines = self.sines.get(angles).unwrap_or_default();
        for (((first, second), cosine), sine) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
            let sine = sine * direction;
            (*first, *second) = (*first * cosine - *second * sine, *second * cosine + *first * sine);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_gradient::{assert_gradients, wave};
    use super::*;

    const SHAPE: HeadShape = HeadShape { sequences: 2, positions: 3, heads: 2, head_dim: 4 };

    #[test]
    fn gradients_are_those_of_small_differences() {
        let angles = (0..6).map(|index| index as f32 * 0.4);
        let rotation = Arc::new(Rotation {
            cosines: angles.clone().map(|angle| 1.2 * angle.cos()).collect(),
            sines: angles.map(|angle| 1.2 * angle.sin()).collect(),
        });
        assert_gradients(&[wave(&[6, 8], 1)], |inputs| split(&inputs[0], SHAPE, Some(&rotation)).unwrap());
        assert_gradients(&[wave(&[2, 2, 3, 4], 1)], |inputs| merge(&inputs[0], SHAPE).unwrap());
    }

    #[test]
    fn merging_undoes_splitting() {
        let x = wave(&[6, 8], 2);
        let back = merge(&split(&x, SHAPE, None).unwrap(), SHAPE).unwrap();
        assert_eq!(values::to_vec(&back).unwrap(), values::to_vec(&x).unwrap());
    }
}
