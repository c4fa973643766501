//! A component as an OCI artifact: the manifest and configuration of the CNCF's guidance for WebAssembly.
//!
//! One layer `application/wasm` holds the component's file, and a configuration `application/vnd.wasm.config.v0+json` says
//! what it is (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>), so that other tools for components read
//! what is pushed here. The signature, which that guidance does not know, is an annotation of the layer.

use anyhow::{Context as _, Result, bail};
use espalier_components::{InterfaceNames, Signature};
use espalier_state::Digest;
use serde_json::{Value, json};

/// The media type of the manifest.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";
/// The annotation of the layer that holds the line of the `.sig` file.
const SIGNATURE: &str = "dev.espalier.component.signature";

/// What a manifest says of a component.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) digest: Digest,
    /// In bytes.
    pub(super) size: u64,
    pub(super) signature: Option<Signature>,
}

/// The configuration and the manifest of a component.
pub(super) fn describe(
    component: &[u8],
    interfaces: &InterfaceNames,
    signature: Option<&Signature>,
) -> (Vec<u8>, Vec<u8>) {
    let digest = Digest::of(component);
    let config = json!({
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [format!("sha256:{digest}")],
        "component": {"exports": interfaces.exports, "imports": interfaces.imports},
    });
    let config = config.to_string().into_bytes();
    let mut layer = descriptor(LAYER, digest, component.len());
    if let Some(signature) = signature {
        layer["annotations"] = json!({SIGNATURE: signature});
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, Digest::of(&config), config.len()),
        "layers": [layer],
    });
    (config, manifest.to_string().into_bytes())
}

fn descriptor(media_type: &str, digest: Digest, size: usize) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size})
}

/// Reads a manifest.
///
/// # Errors
/// What is no component, or has more than one layer.
pub(super) fn parse(manifest: &[u8]) -> Result<Layer> {
    let manifest: Value = serde_json::from_slice(manifest).context("the manifest: found no JSON")?;
    let config = &manifest["config"]["mediaType"];
    if config != CONFIG {
        bail!(
            "the manifest's config.mediaType: found {config}, expected \"{CONFIG}\": this is no WebAssembly artifact"
        );
    }
    let layers = manifest["layers"].as_array().map_or(&[][..], Vec::as_slice);
    let [layer] = layers else {
        bail!("the manifest's layers: found {} of them, expected one with the component", layers.len());
    };
    if layer["mediaType"] != LAYER {
        bail!("the manifest's layers[0].mediaType: found {}, expected \"{LAYER}\"", layer["mediaType"]);
    }
    let digest = layer["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")?.parse().ok());
    let digest = digest.with_context(|| {
        format!("the manifest's layers[0].digest: found {}, expected a SHA-256", layer["digest"])
    })?;
    let size = layer["size"].as_u64().with_context(|| {
        format!("the manifest's layers[0].size: found {}, expected a number of bytes", layer["size"])
    })?;
    let signature = layer["annotations"][SIGNATURE].as_str().map(str::parse).transpose()?;
    Ok(Layer { digest, size, signature })
}

#[cfg(test)]
mod tests {
    use espalier_components::SigningKey;

    use super::*;

    #[test]
    fn what_is_described_is_read_back() {
        let interfaces =
            InterfaceNames { imports: vec!["a:b/c@1.0.0".into()], exports: vec!["a:b/d@1.0.0".into()] };
        let signature = SigningKey::from_seed(&[1; 32]).sign(Digest::of(b"component"));
        let (config, manifest) = describe(b"component", &interfaces, Some(&signature));
        let layer = parse(&manifest).unwrap();
        assert_eq!(
            (layer.digest, layer.size, layer.signature),
            (Digest::of(b"component"), 9, Some(signature))
        );
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["component"], json!({"exports": ["a:b/d@1.0.0"], "imports": ["a:b/c@1.0.0"]}));
        assert_eq!(config["layerDigests"][0], format!("sha256:{}", Digest::of(b"component")));
    }

    #[test]
    fn other_artifacts_are_refused_by_the_field() {
        let whole: Value =
            serde_json::from_slice(&describe(b"c", &InterfaceNames::default(), None).1).unwrap();
        for (path, value, said) in [
            (
                "/config/mediaType",
                json!("application/vnd.oci.image.config.v1+json"),
                "no WebAssembly artifact",
            ),
            ("/layers", json!([]), "found 0 of them"),
            ("/layers/0/mediaType", json!("application/x-tar"), "layers[0].mediaType"),
            ("/layers/0/digest", json!("md5:00"), "layers[0].digest"),
            ("/layers/0/size", json!(-1), "layers[0].size"),
        ] {
            let mut changed = whole.clone();
            *changed.pointer_mut(path).unwrap() = value;
            let error = format!("{:#}", parse(changed.to_string().as_bytes()).unwrap_err());
            assert!(error.contains(said), "{error}");
        }
        assert!(parse(b"<html>").is_err());
    }
}
