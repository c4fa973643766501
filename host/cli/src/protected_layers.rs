//! How units that must stay are named on the command line: `KIND`, or `KIND=N:N:…` with numbers of layers.

use espalier_pruning::{Protected, Unit};

/// The units that `text` names: all of a kind, or all of a kind in some layers.
///
/// # Errors
/// A sentence that names the text, what was found in it and what was expected.
pub(crate) fn protected_layers(text: &str) -> Result<Protected, String> {
    let (unit, layers) = text.split_once('=').map_or((text, None), |(unit, layers)| (unit, Some(layers)));
    let unit: Unit = unit.parse().map_err(|error| format!("{error}"))?;
    let layers = layers.map(|layers| layers.split(':').map(str::parse).collect::<Result<Vec<usize>, _>>());
    let layers = layers.transpose().map_err(|_| {
        format!("\"{text}\" does not name layers; expected KIND, or KIND=N:N:… with numbers of layers")
    })?;
    Ok(Protected { unit, layers, indices: None })
}
