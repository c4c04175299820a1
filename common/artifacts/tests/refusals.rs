//! Stores that do not want: refused writes, nobody there, somebody who never answers.

use artifacts::{ArtifactError, Secret, Store, StoreOptions};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A folder that takes no new file. Mode bits do not bind root: it gets one that the kernel keeps closed.
fn closed_folder(scratch: &tempfile::TempDir) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    match std::fs::File::create(scratch.path().join("probe")) {
        Err(_) => scratch.path().to_owned(),
        Ok(_) => PathBuf::from("/sys/kernel"),
    }
}

#[tokio::test]
async fn a_closed_folder_refuses_for_good_and_says_how_to_mend_it() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = closed_folder(&scratch);
    let store = Store::open(folder.to_str().unwrap(), &StoreOptions::default()).unwrap();
    let error = store.put("refused", "x").await.unwrap_err();
    assert!(matches!(error, ArtifactError::Denied { .. }), "{error:?}");
    assert!(!error.is_transient());
    let told = error.to_string();
    assert!(told.contains("/refused") && told.contains("owner and mode"), "{told}");
}

fn options_for(address: std::net::SocketAddr) -> StoreOptions {
    StoreOptions {
        endpoint: Some(format!("http://{address}")),
        region: Some("us-east-1".to_owned()),
        access_key_id: Some("k".to_owned()),
        secret_access_key: Some(Secret("s".to_owned())),
        request_timeout: Duration::from_millis(500),
        call_timeout: Duration::from_secs(2),
        ..StoreOptions::default()
    }
}

async fn transient_within(options: &StoreOptions, limit: Duration) {
    let store = Store::open("s3://bucket/prefix", options).unwrap();
    let began = Instant::now();
    for error in [store.put("x", "x").await.unwrap_err(), store.head("x").await.unwrap_err()] {
        assert!(error.is_transient(), "{error:?}");
        assert!(error.to_string().contains("s3://bucket/prefix/x"), "{error}");
    }
    assert!(began.elapsed() < limit, "took {:?}", began.elapsed());
}

#[tokio::test]
async fn nobody_at_the_endpoint_is_transient_and_quick() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(); // closed again at once
    let options = StoreOptions {
        request_timeout: StoreOptions::default().request_timeout,
        call_timeout: StoreOptions::default().call_timeout,
        ..options_for(free)
    };
    transient_within(&options, Duration::from_secs(8)).await;
}

#[tokio::test]
async fn an_endpoint_that_never_answers_is_transient_and_bounded() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap(); // the kernel accepts, nobody reads
    transient_within(&options_for(silent.local_addr().unwrap()), Duration::from_secs(8)).await;
}
