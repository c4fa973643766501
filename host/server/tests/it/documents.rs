//! Committed pages that are made from the code. `UPDATE_DOCUMENTS=1 cargo test -p espalier-server documents` renews them.

use std::path::Path;

use espalier_server::metrics::definition;
use espalier_server::openai::compatibility_page::compatibility_page;
use espalier_server::openapi;

#[track_caller]
fn is_committed(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == made, "docs/{name} is not what the code says: renew it with UPDATE_DOCUMENTS=1");
}

#[test]
fn the_openapi_document() {
    is_committed("openapi.json", &format!("{:#}\n", openapi::document()));
}

#[test]
fn the_list_of_metrics() {
    is_committed("metrics.md", &definition::page());
}

#[test]
fn the_compatibility_page() {
    is_committed("openai-compatibility.md", &compatibility_page());
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let dashboard = include_str!("../../../../deploy/grafana/espalier.json");
    let mut asked = 0;
    for part in dashboard.split("espalier_").skip(1) {
        let end = part.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap();
        let name = format!("espalier_{}", &part[..end]);
        let family = name.strip_suffix("_bucket").unwrap_or(&name);
        assert!(definition::ALL.iter().any(|definition| definition.name == family), "{name}");
        asked += 1;
    }
    assert!(asked > 10);
}
