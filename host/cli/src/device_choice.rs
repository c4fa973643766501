//! `--device auto|cpu|cuda[:N]`: which device models run on.

use std::str::FromStr;

use anyhow::{Context as _, Result};
use espalier_kernels::{Cpu, Cuda, Device};

/// `--device`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum DeviceChoice {
    /// The first CUDA device, or the processor where there is none.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The CUDA device of that number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("found '{text}', expected auto, cpu, cuda or cuda:N");
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                number.parse().map(Self::Cuda).map_err(|_| unknown())
            }
        }
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(number) => write!(formatter, "cuda:{number}"),
        }
    }
}

impl<'de> serde::Deserialize<'de> for DeviceChoice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl DeviceChoice {
    /// Opens the device, with so many threads beside it (0: one per core).
    pub(crate) fn open(self, threads: usize) -> Result<Device> {
        let cpu = Cpu::new(threads)?;
        let number = match self {
            Self::Cpu => return Ok(cpu.into()),
            Self::Auto => 0,
            Self::Cuda(number) => number,
        };
        match (Cuda::open(number), self) {
            (Ok(cuda), _) => Ok(Device::with_cuda(cpu, cuda)),
            (Err(error), Self::Auto) => {
                tracing::info!(reason = %error, "models run on the processor");
                Ok(cpu.into())
            }
            (Err(error), _) => Err(error).with_context(|| format!("--device {self}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_the_documented_names() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(0)),
            ("cuda:3", DeviceChoice::Cuda(3)),
        ] {
            assert_eq!(text.parse(), Ok(choice));
        }
        for wrong in ["gpu", "cuda:", "cuda:x", "cuda:-1", ""] {
            let error = wrong.parse::<DeviceChoice>().unwrap_err();
            assert!(error.contains("expected auto, cpu, cuda or cuda:N"), "{error}");
        }
    }
}
