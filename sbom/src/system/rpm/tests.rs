//! Databases as RPM writes them, and as nobody should.

use rusqlite::Connection;

use super::{Header, ndb};
use crate::Inventory;
use crate::testing::{Tree, names};

/// An RPM header of texts, and of numbers.
fn header(texts: &[(u32, &str)], numbers: &[(u32, u32)]) -> Vec<u8> {
    let (mut entries, mut values) = (Vec::new(), Vec::new());
    let mut add = |tag: u32, kind: u32, value: &[u8]| {
        for number in [tag, kind, u32::try_from(values.len()).unwrap(), 1] {
            entries.extend(number.to_be_bytes());
        }
        values.extend_from_slice(value);
    };
    texts.iter().for_each(|(tag, text)| add(*tag, 6, format!("{text}\0").as_bytes()));
    numbers.iter().for_each(|(tag, number)| add(*tag, 4, &number.to_be_bytes()));
    let count = u32::try_from(entries.len() / 16).unwrap();
    let length = u32::try_from(values.len()).unwrap();
    [&count.to_be_bytes()[..], &length.to_be_bytes(), &entries, &values].concat()
}

fn headers() -> Vec<Vec<u8>> {
    let bash = [(1000, "bash"), (1001, "5.2.26"), (1002, "3.fc40"), (1022, "x86_64"), (1014, "GPL-3.0-or-later")];
    let bind = [(1000, "bind-libs"), (1001, "9.18"), (1002, "1.fc40"), (1044, "bind-9.18-1.fc40.src.rpm")];
    let key = [(1000, "gpg-pubkey"), (1001, "a15b79cc"), (1002, "63d04c2c")];
    vec![header(&bash, &[]), header(&bind, &[(1003, 32)]), header(&key, &[])]
}

fn assert_found(inventory: &Inventory) {
    assert_eq!(inventory.problems, []);
    assert_eq!(names(&inventory.packages), ["bash 5.2.26-3.fc40", "bind-libs 32:9.18-1.fc40"]);
    let purls = inventory.packages.iter().map(|package| package.purl(Some("fedora-40")).unwrap());
    assert_eq!(
        purls.collect::<Vec<_>>(),
        [
            "pkg:rpm/fedora/bash@5.2.26-3.fc40?arch=x86_64&distro=fedora-40",
            "pkg:rpm/fedora/bind-libs@9.18-1.fc40?distro=fedora-40&epoch=32&upstream=bind-9.18-1.fc40.src.rpm",
        ]
    );
}

fn database(schema: &str, mode: &str) -> (tempfile::TempDir, Connection) {
    let directory = tempfile::tempdir().unwrap();
    let connection = Connection::open(directory.path().join("rpmdb.sqlite")).unwrap();
    connection.pragma_update(None, "journal_mode", mode).unwrap();
    connection.execute_batch(schema).unwrap();
    (directory, connection)
}

const SCHEMA: &str = "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)";

#[test]
fn rpm_databases_in_sqlite_are_read() {
    let (directory, connection) = database(SCHEMA, "delete");
    for blob in headers() {
        connection.execute("INSERT INTO Packages (blob) VALUES (?1)", [blob]).unwrap();
    }
    drop(connection);
    let tree = Tree::new(&[("etc/os-release", "ID=fedora\nVERSION_ID=40\n")]);
    let path = "usr/lib/sysimage/rpm/rpmdb.sqlite";
    let tree = tree.with(path, &std::fs::read(directory.path().join("rpmdb.sqlite")).unwrap());
    assert_found(&tree.inventory());
}

#[test]
fn what_only_the_log_of_an_rpm_database_has_counts() {
    let (directory, connection) = database(SCHEMA, "wal");
    for blob in headers() {
        connection.execute("INSERT INTO Packages (blob) VALUES (?1)", [blob]).unwrap();
    }
    // While it is open the log is not merged.
    let file = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
    let tree = Tree::new(&[("etc/os-release", "ID=fedora\nVERSION_ID=40\n")])
        .with("var/lib/rpm/rpmdb.sqlite", &file("rpmdb.sqlite"))
        .with("var/lib/rpm/rpmdb.sqlite-wal", &file("rpmdb.sqlite-wal"));
    assert_found(&tree.inventory());
}

/// `Packages.db` with one page of slots.
fn packages_db(headers: &[Vec<u8>]) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let mut slots = Vec::new();
    let mut blobs = vec![0; 0];
    for (index, header) in headers.iter().enumerate() {
        let place = (4096 + blobs.len()) / 16;
        slots.extend(
            [&b"Slot"[..], &number(index + 1), &number(place), &number(header.len().div_ceil(16) + 2)].concat(),
        );
        blobs.extend([&b"BlbS"[..], &number(index + 1), &number(1), &number(header.len()), header].concat());
        blobs.resize(blobs.len().next_multiple_of(16) + 16, 0);
    }
    slots.extend([&b"Slot"[..], &[0; 12]].concat());
    while slots.len() < 4096 - 32 {
        slots.extend([&b"Slot"[..], &[0; 12]].concat());
    }
    [&b"RpmP"[..], &number(0), &number(1), &number(1), &[0; 16], &slots, &blobs].concat()
}

#[test]
fn rpm_databases_of_its_own_format_are_read() {
    let tree = Tree::new(&[("etc/os-release", "ID=fedora\nVERSION_ID=40\n")]);
    assert_found(&tree.with("usr/lib/sysimage/rpm/Packages.db", &packages_db(&headers())).inventory());
}

#[test]
fn hostile_databases_are_problems() {
    let problems = |path: &str, bytes: &[u8]| {
        let inventory = Tree::new(&[]).with(path, bytes).inventory();
        assert_eq!(inventory.packages, []);
        inventory.problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let endless = "CREATE VIEW Packages AS WITH RECURSIVE n(blob) AS (SELECT x'' UNION ALL SELECT x'' FROM n) \
                   SELECT blob FROM n";
    let (directory, connection) = database(endless, "delete");
    drop(connection);
    let view = std::fs::read(directory.path().join("rpmdb.sqlite")).unwrap();
    assert_eq!(problems("var/lib/rpm/rpmdb.sqlite", &view).len(), 1);
    assert_eq!(problems("var/lib/rpm/rpmdb.sqlite", b"SQLite format 3\0 but not really").len(), 1);
    assert!(problems("var/lib/rpm/Packages", b"\0")[0].contains("Berkeley DB"));
    assert!(problems("var/lib/rpm/Packages.db", &packages_db(&[vec![1]]))[0].contains("1 damaged headers"));
    assert!(problems("var/lib/rpm/Packages.db", &packages_db(&headers())[..4000])[0].contains("truncated"));
}

#[test]
fn no_bytes_make_it_panic() {
    let whole = packages_db(&headers());
    for position in 0..whole.len() {
        let _ = ndb::headers(&whole[..position]);
        for value in [0, 1, 0x7f, 0xff] {
            let mut damaged = whole.clone();
            damaged[position] = value;
            let _ = ndb::headers(&damaged);
        }
    }
    for header in headers() {
        for position in 0..header.len() {
            let read = |bytes: &[u8]| Header::parse(bytes).and_then(|header| header.package(None, ""));
            read(&header[..position]);
            for value in 0..=255 {
                let mut damaged = header.clone();
                damaged[position] = value;
                read(&damaged);
            }
        }
    }
}
