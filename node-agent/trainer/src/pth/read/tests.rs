use super::super::write;
use super::*;
use std::io::Write;
use tch::{Device, Kind};
use zip::write::SimpleFileOptions;

fn sample() -> Vec<(&'static str, Vec<(String, Tensor)>)> {
    let weight = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]) * 0.37 - 1.0;
    let big = Tensor::arange(70_000, (Kind::Int64, Device::Cpu));
    vec![
        (
            "vgae",
            vec![
                ("convs.0.lin.weight".into(), weight.shallow_clone()),
                ("tr".into(), weight.tr()),
                ("bn.num_batches_tracked".into(), Tensor::from(123_456_789_012i64)),
            ],
        ),
        (
            "gat",
            vec![("ids".into(), big), ("empty".into(), Tensor::zeros([0, 4], (Kind::Float, Device::Cpu)))],
        ),
    ]
}

fn written() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("best_teacher_model_x.pth");
    write(&path, &sample()).unwrap();
    (dir, path)
}

#[test]
fn every_tensor_comes_back_by_section_and_name() {
    let (_dir, path) = written();
    let sections = read(&path).unwrap();
    for (section, tensors) in sample() {
        assert_eq!(sections[section].len(), tensors.len());
        for (name, tensor) in tensors {
            let back = &sections[section][&name];
            assert_eq!((back.size(), back.kind()), (tensor.size(), tensor.kind()), "{name}");
            assert_eq!(*back, tensor, "{name}");
        }
    }
}

#[test]
fn the_archive_has_torchs_layout_and_names_only_what_the_safe_loader_allows() {
    let (_dir, path) = written();
    let mut archive = ZipArchive::new(BufReader::new(File::open(&path).unwrap())).unwrap();
    for name in
        ["archive/data.pkl", "archive/byteorder", "archive/version", "archive/data/0", "archive/data/4"]
    {
        let entry = archive.by_name(name).unwrap();
        assert_eq!(entry.compression(), zip::CompressionMethod::Stored, "{name}");
        if name.starts_with("archive/data/") {
            assert_eq!(entry.data_start().unwrap() % 64, 0, "{name} is not aligned");
        }
    }
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(&bytes[..4], b"PK\x03\x04", "torch tells its zip form by the first bytes");
    let pickle = entry(&mut archive, "archive/data.pkl", PICKLE_MAX_BYTES).unwrap();
    assert_eq!(pickle[..2], [0x80, 2], "protocol 2");
    let allowed = [
        "ctorch._utils\n_rebuild_tensor_v2\n",
        "ctorch\nFloatStorage\n",
        "ctorch\nLongStorage\n",
        "ccollections\nOrderedDict\n",
    ];
    let text = String::from_utf8_lossy(&pickle).into_owned();
    let rest = allowed.iter().fold(text.clone(), |text, global| text.replace(global, ""));
    assert_ne!(rest, text);
    assert!(!rest.contains('\n'), "a global beyond the allowed ones");
}

#[test]
fn equal_weights_give_equal_bytes() {
    let ((_a, first), (_b, second)) = (written(), written());
    assert_eq!(std::fs::read(first).unwrap(), std::fs::read(second).unwrap());
}

fn archive_with_pickle(pickle: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pth");
    let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
    let plain = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    archive.start_file("model/data.pkl", plain).unwrap();
    archive.write_all(pickle).unwrap();
    archive.start_file("model/data/0", plain).unwrap();
    archive.write_all(&[0; 16]).unwrap();
    archive.finish().unwrap();
    (dir, path)
}

/// As `torch.save(OrderedDict(w=tensor))` writes it: memo entries, `_metadata` by BUILD, short tuples.
#[test]
fn a_state_dict_saved_by_python_is_read() {
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00wq\x02".to_vec();
    pickle.extend_from_slice(b"ctorch._utils\n_rebuild_tensor_v2\nq\x03((X\x07\x00\x00\x00storageq\x04");
    pickle.extend_from_slice(b"ctorch\nFloatStorage\nq\x05X\x01\x00\x00\x000q\x06X\x03\x00\x00\x00cpuq\x07");
    pickle.extend_from_slice(b"K\x04tq\x08QK\x01K\x03\x85q\x09K\x01\x85q\x0a\x89h\x00)Rq\x0btq\x0cRq\x0d");
    pickle.extend_from_slice(b"X\x05\x00\x00\x00epochK\x07u");
    pickle.extend_from_slice(b"}q\x0eX\x09\x00\x00\x00_metadataq\x0fh\x00)Rq\x10sb.");
    let (_dir, path) = archive_with_pickle(&pickle);
    let sections = read(&path).unwrap();
    assert_eq!(sections[""].keys().collect::<Vec<_>>(), ["w"]);
    assert_eq!(sections[""]["w"].size(), [3]);
}

#[test]
fn hostile_and_torn_files_are_refused() {
    let cases: [(&[u8], &str); 5] = [
        (b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.", "os.system"),
        (b"\x80\x02}(X\x01\x00\x00\x00a", "ends in the middle"),
        (b"\x80\x02K\x01.", "no dict"),
        (b"\x80\x02}u.", "MARK"),
        (b"\x80\x02\x95\x00.", "opcode"),
    ];
    for (pickle, word) in cases {
        let (_dir, path) = archive_with_pickle(pickle);
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text.pth");
    std::fs::write(&path, "weights").unwrap();
    assert!(matches!(read(&path), Err(PthError::Zip { .. })));
}

#[test]
fn a_view_beyond_its_storage_is_refused() {
    let mut pickle =
        b"\x80\x02}(X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage".to_vec();
    pickle.extend_from_slice(b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x02");
    pickle.extend_from_slice(b"K\x03\x85K\x01\x85\x89NtRu.");
    let (_dir, path) = archive_with_pickle(&pickle);
    assert!(read(&path).unwrap_err().to_string().contains("outside its storage"));
}
