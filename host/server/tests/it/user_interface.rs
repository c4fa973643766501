//! The web UI's files are served, complete and under a policy that lets nothing else in.

use crate::host::Host;

#[test]
fn the_page_and_everything_it_imports_is_there() {
    let host = Host::start();
    let page = host.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    let mut wanted = vec!["/ui/style.css".to_owned(), "/ui/app.js".to_owned(), "/favicon.svg".to_owned()];
    assert!(wanted.iter().all(|path| page.text.contains(path.as_str())));
    let mut seen = Vec::new();
    while let Some(path) = wanted.pop() {
        let file = host.get(&path);
        assert_eq!(file.status, 200, "{path}");
        for import in file.text.lines().filter_map(|line| line.split(" from \"./").nth(1)) {
            let import = format!("/ui/{}", import.trim_end_matches("\";"));
            if !seen.contains(&import) {
                seen.push(import.clone());
                wanted.push(import);
            }
        }
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
}

#[test]
fn the_page_is_under_its_policy() {
    let html = include_str!("../../../../web/index.html");
    for inline in ["style=", "onclick=", "<style", "javascript:"] {
        assert!(!html.contains(inline), "{inline} would be blocked by the policy");
    }
    assert_eq!(html.matches("<script").count(), 1);
}
