//! Figures, as metrics usually make them.

use crate::Measurement;

impl Measurement {
    /// A figure without a standard error.
    #[must_use]
    pub fn new(name: &str, value: f64) -> Self {
        Self { name: name.to_owned(), value, standard_error: None }
    }

    /// The mean of n values with its standard error, sqrt((E[x²] − E[x]²) / (n − 1)), where n is at least 2. None
    /// without values.
    pub fn mean(name: &str, values: impl IntoIterator<Item = f64>) -> Option<Self> {
        // Welford's update: the plain sums of squares cancel where the spread is small.
        let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for value in values {
            count += 1.0;
            let distance = value - mean;
            mean += distance / count;
            squares += distance * (value - mean);
        }
        let standard_error = (count > 1.0).then(|| (squares / count / (count - 1.0)).sqrt());
        (count > 0.0).then(|| Self { name: name.to_owned(), value: mean, standard_error })
    }
}
