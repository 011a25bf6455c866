//! What control does before it serves, and where it does not start at all.

use std::fs;
use std::os::unix::net::UnixListener;
use std::thread;

use serde_json::json;
use testkit::ports::free_address;
use testkit::process::{Program, run};
use testkit::{Control, Folder};

#[test]
fn a_root_that_does_not_exist_is_told_and_not_made() {
    let folder = Folder::new();
    let typo = folder.beside("typo");
    let root = ["--root", typo.to_str().expect("a plain name")];
    let cases: [(&str, &[&str]); 7] = [
        ("control_server", &[]),
        ("control_server", &["--check"]),
        ("control_server", &["token", "create", "--scope", "read"]),
        ("control_server", &["token", "list"]),
        ("proxy_server", &[]),
        ("dummy_proxy", &[]),
        ("gen_k8s_endpoints", &[]),
    ];
    for (program, arguments) in cases {
        let output = run(program, [&root[..], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{program} {arguments:?}: {said}"
        );
        assert!(said.contains("typo does not exist"), "{program}: {said}");
        assert!(!typo.exists(), "{program} {arguments:?} made it");
    }
}

#[test]
fn init_makes_the_root_and_the_first_line_names_it() {
    let folder = Folder::new();
    let new = folder.beside("new");
    let listen = free_address().to_string();
    let root = new.to_str().expect("a plain name");
    let arguments = ["--init", "--root", root, "--listen", &listen];
    let mut program = Program::start("control_server", arguments);
    let first = program.wait_for_line("control_server");
    let expected = format!("root={root} listen={listen}");
    assert!(first.contains(&expected), "{first}");
    program.wait_for_line("listening on");
    assert!(new.join("config/proxy_config.json").exists());
    program.assert_one_line("INFO control_server");
}

#[test]
fn nobody_is_served_before_the_first_publish() {
    let folder = Folder::new();
    let run_folder = folder.root.0.join("run");
    fs::create_dir(&run_folder).expect("a temporary folder");
    // A proxy that takes every question and answers none.
    let silent = UnixListener::bind(run_folder.join("proxy.sock")).expect("a temporary folder");
    thread::spawn(move || {
        let asked: Vec<_> = silent.incoming().collect();
        drop(asked);
    });
    let mut control = Control::start(&folder, free_address(), &json!({}));
    control.program.wait_for_line("listening on");
    let published = control.program.count_lines("published generation=1");
    assert_eq!(published, 1, "it served before the first publish was done");
}
