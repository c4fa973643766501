//! Numeric kernels: weight formats, matrices, a thread pool and the operations of a transformer's forward pass.
//!
//! This crate knows tensors and no model. It promises that on the exact path a result depends only on the row that
//! it is computed from: not on the batch around it, the number of threads or the instruction set.
//! What a tensor means, which cache block belongs to whom and in which order operations run is left to the crates above.

// Memory mapping, the pool's borrowed closures and vector instructions need it; every block says why it is sound.
#![expect(unsafe_code, reason = "kernels are the one room where unsafe code is allowed")]

mod arena;
mod bytes;
mod cache_elements;
mod cache_format;
mod cpu;
mod cuda;
mod dequantize;
mod device;
mod error;
mod format;
mod kv;
mod matrix;
mod pool;
mod quantize;
mod split_mxfp4;
mod tensor;

pub use bytes::Bytes;
pub use cache_format::CacheFormat;
pub use cpu::{
    Activations, AttentionShape, Covariance, Cpu, Dense, InstructionSet, Precision, Product, Roof,
    RowStatistics, SequenceSpan, Sum,
};
pub use cuda::{
    Cuda, CudaActivation, CudaAttention, CudaBuffer, CudaExperts, CudaGraph, CudaInput, CudaKeyValueStore,
    CudaMatrix, CudaPlacement, CudaProduct, CudaRouting, CudaSplits, CudaStep, ProductRows,
};
pub use dequantize::dequantize;
pub use device::Device;
pub use error::KernelError;
pub use format::WeightFormat;
pub use kv::{CacheLayer, CacheSize, KeyValueStore};
pub use matrix::Matrix;
pub use quantize::quantize;
pub use split_mxfp4::{SplitMxfp4, join_mxfp4};
pub use tensor::Tensor;
