//! What a rebuild found and wrote.

use crate::shell::rebuild::{Count, Looked, Rebuilt};
use serde_json::{Value, json};

pub fn json(looked: &Looked, written: Option<&Rebuilt>) -> Value {
    let draft = &looked.draft;
    let open: Vec<String> = draft.open_chains().into_iter().map(ToString::to_string).collect();
    let count = |c: Count| json!({"written": c.written, "already_there": c.there});
    json!({
        "schema": "coord.v1.rebuild",
        "found": {
            "results_in_use": draft.registry.iter().map(|e| e.name.to_string()).collect::<Vec<_>>(),
            "plans": draft.plans.len(),
            "chains": draft.chains.len(),
        },
        "chains_that_go_on": open,
        "unusable": looked.unusable,
        "written": written.map(|w| json!({
            "registry": count(w.registry), "chains": count(w.chains), "plans": count(w.plans),
        })),
    })
}

pub fn table(looked: &Looked, written: Option<&Rebuilt>) -> String {
    let draft = &looked.draft;
    let line = |name: &str, found: usize, count: Option<Count>| match count {
        None => format!("{name:<10} {found} in the store"),
        Some(c) => format!("{name:<10} {found} in the store, {} written, {} were there", c.written, c.there),
    };
    let mut lines = vec![
        line("registry", draft.registry.len(), written.map(|w| w.registry)),
        line("chains", draft.chains.len(), written.map(|w| w.chains)),
        line("plans", draft.plans.len(), written.map(|w| w.plans)),
    ];
    lines.extend(
        draft
            .open_chains()
            .into_iter()
            .map(|id| format!("goes on: {id} (stop it: coord cancel {})", id.plan)),
    );
    lines.extend(looked.unusable.iter().map(|what| format!("can not be used: {what}")));
    if written.is_none() {
        lines.push("nothing was written (--dry-run)".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use coordinator_core::rebuild::Draft;

    #[test]
    fn a_dry_run_says_that_nothing_was_written() {
        let looked = Looked { draft: Draft::default(), unusable: vec!["runs/x: damaged".into()] };
        assert!(table(&looked, None).ends_with("nothing was written (--dry-run)"));
        let written = Rebuilt { plans: Count { written: 1, there: 2 }, ..Rebuilt::default() };
        let text = table(&looked, Some(&written));
        assert!(text.contains("plans      0 in the store, 1 written, 2 were there"), "{text}");
        assert!(text.contains("can not be used: runs/x: damaged"), "{text}");
        assert_eq!(json(&looked, None)["written"], Value::Null);
    }
}
