//! Against a server on this machine that does what it should not.

use super::*;
use crate::control_plane::binaries::{Binaries, locate_in};
use flate2::{Compression, write::GzEncoder};
use std::{
    cell::RefCell,
    fs,
    io::{BufRead, Read},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt, symlink},
    thread,
};

const PROGRAM: &[u8] = b"#!/bin/sh\nexit 0\n";

/// What the server does with each connection, having read the request.
type Behaviour = Box<dyn Fn(&mut TcpStream) + Send>;

/// A server; its address.
fn serve(behaviour: Behaviour) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    // It ends with the process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = BufReader::new(stream.try_clone().expect("a stream")).lines();
            while request
                .next()
                .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
            {}
            behaviour(&mut stream);
        }
    });
    format!("http://{address}/envtest.tar.gz")
}

/// Answers with a body, of which only the first bytes come.
fn answer(stream: &mut TcpStream, body: &[u8], sent: usize) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    // A client that has gone is the test's to judge.
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&body[..sent]);
}

fn serve_body(body: Vec<u8>) -> String {
    serve(Box::new(move |stream| answer(stream, &body, body.len())))
}

/// An archive of these files.
fn archive_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        // The checked way would refuse a path that leads outside.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        archive.append(&header, *content).expect("a file");
    }
    let gzip = archive.into_inner().expect("an archive");
    gzip.finish().expect("an archive")
}

/// An archive as envtest publishes it.
fn envtest() -> Vec<u8> {
    archive_of(&[
        ("controller-tools/envtest/etcd", PROGRAM),
        ("controller-tools/envtest/kube-apiserver", PROGRAM),
        ("controller-tools/envtest/kubectl", PROGRAM),
    ])
}

fn sum(bytes: &[u8]) -> String {
    let sum = aws_lc_rs::digest::digest(&SHA512, bytes);
    sum.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn expect(url: String, content: &[u8]) -> Archive {
    Archive {
        name: "envtest-test".to_owned(),
        url,
        sha512: sum(content),
        patience: Duration::from_millis(500),
    }
}

/// What fetching said that failed, and that it left nothing but its archive.
fn failure(archive: &Archive) -> String {
    let scratch = tempfile::tempdir().expect("a directory");
    let error = archive
        .fetch(scratch.path(), &|_| ())
        .expect_err("it fails");
    let left = fs::read_dir(scratch.path()).expect("a directory").count();
    assert_eq!(left, 1, "nothing was unpacked");
    error.to_string()
}

#[test]
fn the_right_archive_is_unpacked_once_and_kept() {
    let content = envtest();
    let archive = expect(serve_body(content.clone()), &content);
    let cache = tempfile::tempdir().expect("a directory");
    let told = RefCell::new(Vec::new());
    let progress = |line: &str| told.borrow_mut().push(line.to_owned());
    let found =
        locate_in(cache.path(), Some(&archive), &progress, unexpected).expect("it is there");
    assert!(found.kubectl.starts_with(cache.path().join("envtest-test")));
    let mode = fs::metadata(&found.etcd)
        .expect("a program")
        .permissions()
        .mode();
    assert_eq!(mode & 0o111, 0o111, "it can be executed");
    assert_eq!(fs::read(&found.kube_apiserver).expect("a program"), PROGRAM);
    let left = fs::read_dir(cache.path()).expect("the cache").count();
    assert_eq!(left, 2, "the programs and the lock");
    assert!(told.borrow()[0].contains("downloading the control plane from http://127.0.0.1"));

    // It is asked for once: the address is nobody's now.
    let gone = expect("http://127.0.0.1:9/".to_owned(), &content);
    let again = locate_in(cache.path(), Some(&gone), &|_| (), unexpected);
    assert_eq!(again.expect("it is kept"), found);
}

fn unexpected() -> Result<PathBuf, CacheError> {
    panic!("nothing is to be built")
}

#[test]
fn another_archive_is_not_unpacked() {
    let archive = expect(serve_body(envtest()), b"another");
    let said = failure(&archive);
    assert!(
        said.contains(&sum(&envtest())) && said.contains(&sum(b"another")),
        "{said}"
    );
}

#[test]
fn half_an_archive_is_not_unpacked() {
    let content = envtest();
    let half = content.len() / 2;
    let sent = content.clone();
    let cut = serve(Box::new(move |stream| answer(stream, &sent, half)));
    let said = failure(&expect(cut, &content));
    assert!(said.contains("end of file"), "{said}");

    // The same without a length that would tell: then the sum does.
    let short = serve_body(content[..half].to_vec());
    let said = failure(&expect(short, &content));
    assert!(said.contains("cut off"), "{said}");
}

#[test]
fn a_server_that_is_silent_is_not_waited_for() {
    let began = Instant::now();
    let silent = serve(Box::new(|stream| {
        // Until the client goes.
        let _ = stream.read(&mut [0]);
    }));
    let said = failure(&expect(silent, b""));
    assert!(
        said.contains("nothing came") && said.contains("for 0.5 s"),
        "{said}"
    );

    let content = envtest();
    let sent = content.clone();
    let stuck = serve(Box::new(move |stream| {
        answer(stream, &sent, sent.len() / 2);
        let _ = stream.read(&mut [0]);
    }));
    let said = failure(&expect(stuck, &content));
    assert!(said.contains("nothing came"), "{said}");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn an_answer_that_is_an_error_is_told() {
    let missing = serve(Box::new(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    }));
    let said = failure(&expect(missing, b""));
    assert!(said.contains("404 Not Found"), "{said}");
}

#[test]
fn without_a_network_it_is_built_and_one_line_says_so() {
    let cache = tempfile::tempdir().expect("a directory");
    let built = cache.path().join("built");
    fs::create_dir(&built).expect("a directory");
    for program in ["etcd", "kube-apiserver", "kubectl"] {
        fs::write(built.join(program), PROGRAM).expect("a program");
    }
    let told = RefCell::new(Vec::new());
    let progress = |line: &str| told.borrow_mut().push(line.to_owned());
    for url in ["http://127.0.0.1:9/", "http://does-not-exist.invalid/"] {
        let archive = expect(url.to_owned(), b"");
        let began = Instant::now();
        let found = locate_in(
            cache.path(),
            Some(&archive),
            &progress,
            || Ok(built.clone()),
        );
        assert_eq!(
            found.expect("it is built"),
            Binaries::in_dir(&built).expect("it is there")
        );
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            began.elapsed()
        );
        let lines = told.take();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[1].contains(url) && lines[1].contains("from source"),
            "{lines:?}"
        );
    }
}

#[test]
fn nothing_is_written_outside_of_the_folder() {
    let parent = tempfile::tempdir().expect("a directory");
    let scratch = parent.path().join("scratch");
    fs::create_dir(&scratch).expect("a directory");
    let content = archive_of(&[("controller-tools/../../outside", PROGRAM)]);
    let archive = expect(serve_body(content.clone()), &content);
    let error = archive.fetch(&scratch, &|_| ()).expect_err("it fails");
    assert!(
        error.to_string().contains("outside of its folder"),
        "{error}"
    );
    assert!(!parent.path().join("outside").exists());

    // Nor through a link.
    fs::remove_file(scratch.join("archive.tar.gz")).expect("the archive");
    symlink(parent.path(), scratch.join("controller-tools")).expect("a link");
    let content = archive_of(&[("controller-tools/outside", PROGRAM)]);
    let archive = expect(serve_body(content.clone()), &content);
    archive.fetch(&scratch, &|_| ()).expect_err("it fails");
    assert!(!parent.path().join("outside").exists());
}

#[test]
fn there_is_one_for_this_machine() {
    let machines: Vec<_> = SUMS.iter().map(|(machine, _)| *machine).collect();
    assert_eq!(
        machines,
        ["linux-amd64", "linux-arm64", "darwin-arm64", "darwin-amd64"]
    );
    assert!(SUMS.iter().all(|(_, sum)| sum.len() == 128));
    let pinned = pinned().expect("an archive");
    assert!(pinned.url.ends_with(".tar.gz"), "{}", pinned.url);
}
