//! What the object store keeps of the records, so that the bus may lose its memory:
//!
//! | object | holds |
//! |--|--|
//! | `runs/<key>/committed` | attempt and manifest of the committed result |
//! | `plans/<plan>/plan` | the plan, from its apply on, or else from before its first chain was made |
//! | `plans/<plan>/<dataset>.over` | the last record of a chain |
//! | `buses/<digest of the address>` | when the buckets behind an address were made |

use artifacts::{ArtifactError, Listed, Store};
use common::chain::ChainRecord;
use common::digest::Digest;
use common::ids::{Attempt, PlanId};
use common::job_key::JobKey;
use common::manifest::COMMITTED_MARKER;
use common::plan::Plan;
use common::registry::CommittedRef;
use common::wire;
use serde::Serialize;

/// Largest record that is read back.
pub(super) const RECORD_MAX_BYTES: u64 = 16 << 20;
pub(super) const PLANS: &str = "plans";
pub(super) const RUNS: &str = "runs";
const PLAN: &str = "plan";
const OVER: &str = ".over";

pub async fn put_plan(store: &Store, plan: &Plan) -> Result<(), ArtifactError> {
    put(store, &plan_object(&plan.id), plan).await
}

pub(super) fn plan_object(id: &PlanId) -> String {
    format!("{PLANS}/{id}/{PLAN}")
}

/// Keeps the record of a chain that is over. Without it, a rebuilt bus would run again what was cancelled or
/// has failed; what was committed is known by its markers.
pub async fn put_over(store: &Store, record: &ChainRecord) {
    let object = format!("{PLANS}/{}/{}{OVER}", record.id.plan, record.id.dataset);
    if let Err(e) = put(store, &object, record).await {
        tracing::warn!(error = %e, "record of a finished chain not kept");
    }
}

pub(super) async fn put_marker(store: &Store, committed: &CommittedRef) -> Result<(), ArtifactError> {
    let marker = format!("{}/{COMMITTED_MARKER}", committed.key.run_prefix());
    store.put(&marker, format!("{}\n{}\n", committed.attempt, committed.manifest).into_bytes()).await
}

async fn put<T: Serialize>(store: &Store, object: &str, value: &T) -> Result<(), ArtifactError> {
    match wire::encode(value) {
        Ok(bytes) => store.put(object, bytes).await,
        // Only a value that can not be written to the bus either comes here.
        Err(e) => Err(ArtifactError::Store { at: object.to_owned(), cause: e.to_string() }),
    }
}

/// Which of the objects below `plans/` hold what.
pub(super) enum Record {
    Plan,
    Over,
}

pub(super) fn record_at(object: &str) -> Option<Record> {
    match object.rsplit_once('/')?.1 {
        PLAN => Some(Record::Plan),
        name if name.ends_with(OVER) => Some(Record::Over),
        _ => None,
    }
}

/// The key whose marker this object is.
pub(super) fn marker_of(object: &str) -> Option<JobKey> {
    let key = object.strip_prefix(RUNS)?.strip_prefix('/')?.strip_suffix(COMMITTED_MARKER)?;
    super::client::parse_job_key(key.strip_suffix('/')?)
}

/// What a marker says.
pub(super) async fn read_marker(store: &Store, key: JobKey) -> Result<Option<CommittedRef>, ArtifactError> {
    let text = store.get(&format!("{}/{COMMITTED_MARKER}", key.run_prefix()), 4096).await?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut lines = text.lines();
    let attempt = lines.next().and_then(attempt);
    let manifest: Option<Digest> = lines.next().and_then(|line| line.parse().ok());
    Ok(attempt.zip(manifest).map(|(attempt, manifest)| CommittedRef { key, attempt, manifest }))
}

/// What the store knows of a key before an attempt of it is offered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Known {
    Nothing,
    /// The newest attempt that has left something.
    Used(Attempt),
    Committed(CommittedRef),
}

pub(super) async fn look(store: &Store, key: JobKey) -> Result<Known, ArtifactError> {
    let prefix = key.run_prefix();
    let found = store.list(&prefix).await?;
    if found.iter().any(|o| marker_of(&o.key).is_some())
        && let Some(committed) = read_marker(store, key).await?
    {
        return Ok(Known::Committed(committed));
    }
    Ok(newest_attempt(&found, &prefix).map_or(Known::Nothing, Known::Used))
}

fn newest_attempt(found: &[Listed], prefix: &str) -> Option<Attempt> {
    let folder = |o: &Listed| {
        let rest = o.key.strip_prefix(prefix)?.strip_prefix('/')?;
        attempt(rest.split_once('/')?.0)
    };
    found.iter().filter_map(folder).max()
}

/// `a3`
fn attempt(text: &str) -> Option<Attempt> {
    text.strip_prefix('a')?.parse().ok().map(Attempt)
}

pub(super) fn bus_object(address: &str) -> String {
    format!("buses/{}", Digest::of(address.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use artifacts::StoreOptions;

    #[tokio::test]
    async fn the_store_says_which_attempts_were_used_and_what_was_committed() {
        let store = Store::open("memory://", &StoreOptions::default()).unwrap();
        let key = JobKey(Digest::of(b"k"));
        assert_eq!(look(&store, key).await.unwrap(), Known::Nothing);
        for attempt in [2, 10, 9] {
            let object = format!("{}/started", common::registry::attempt_prefix(&key, Attempt(attempt)));
            store.put(&object, "x").await.unwrap();
        }
        assert_eq!(look(&store, key).await.unwrap(), Known::Used(Attempt(10)));
        let committed = CommittedRef { key, attempt: Attempt(9), manifest: Digest::of(b"m") };
        put_marker(&store, &committed).await.unwrap();
        assert_eq!(look(&store, key).await.unwrap(), Known::Committed(committed));
    }

    #[test]
    fn objects_are_told_by_their_names() {
        assert!(matches!(record_at("plans/p1/plan"), Some(Record::Plan)));
        assert!(matches!(record_at("plans/p1/hcrl_sa.over"), Some(Record::Over)));
        assert!(record_at("plans/p1/else").is_none());
        let key = JobKey(Digest::of(b"k"));
        assert_eq!(marker_of(&format!("runs/{key}/committed")), Some(key));
        assert_eq!(marker_of(&format!("runs/{key}/a1/committed")), None);
    }
}
