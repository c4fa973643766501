//! Making collectors from their definitions, each registered as it is made.

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::error::ServerError;
use crate::metrics::definition::{Definition, Kind};
use crate::metrics::guests::Guests;

/// Collects what is made.
#[derive(Default)]
pub(super) struct Build {
    registry: Registry,
}

impl Build {
    pub(super) fn counter(&self, definition: &Definition) -> Result<IntCounterVec, ServerError> {
        let vector = IntCounterVec::new(Opts::new(definition.name, definition.help), definition.labels)
            .map_err(ServerError::Metrics)?;
        self.registry.register(Box::new(vector.clone())).map_err(ServerError::Metrics)?;
        Ok(vector)
    }

    pub(super) fn gauge(&self, definition: &Definition) -> Result<GaugeVec, ServerError> {
        let vector = GaugeVec::new(Opts::new(definition.name, definition.help), definition.labels)
            .map_err(ServerError::Metrics)?;
        self.registry.register(Box::new(vector.clone())).map_err(ServerError::Metrics)?;
        Ok(vector)
    }

    pub(super) fn histogram(&self, definition: &Definition) -> Result<HistogramVec, ServerError> {
        let mut options = HistogramOpts::new(definition.name, definition.help);
        if let Kind::Histogram(buckets) = definition.kind {
            options = options.buckets(buckets.to_vec());
        }
        let vector = HistogramVec::new(options, definition.labels).map_err(ServerError::Metrics)?;
        self.registry.register(Box::new(vector.clone())).map_err(ServerError::Metrics)?;
        Ok(vector)
    }

    pub(super) fn guests(&self) -> Result<Guests, ServerError> {
        let guests = Guests::new()?;
        self.registry.register(Box::new(guests.clone())).map_err(ServerError::Metrics)?;
        Ok(guests)
    }

    pub(super) fn finish(self) -> Registry {
        self.registry
    }
}
