//! Databases as images have them.

use crate::testing::{Tree, names};
use crate::{Ecosystem, Inventory};

const DEBIAN: &str = "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";

#[test]
fn dpkg_lists_what_is_installed() {
    let status = "Package: libc6\nStatus: install ok installed\nSource: glibc (2.36-9)\nVersion: 2.36-9+deb12u7\n\
                  Architecture: amd64\nMaintainer: GNU Libc Maintainers <libc@example.org>\nDescription: C library\n \
                  Version: no field\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                  Package: tzdata\nStatus: install ok installed\nVersion: 2024a-0\nArchitecture: all\n";
    let tree = Tree::new(&[("etc/os-release", DEBIAN), ("var/lib/dpkg/status", status)]);
    let Inventory { packages, problems, .. } = tree.inventory();
    assert_eq!(problems, []);
    assert_eq!(names(&packages), ["libc6 2.36-9+deb12u7", "tzdata 2024a-0"]);
    assert_eq!((packages[0].ecosystem, packages[0].source.as_deref()), (Ecosystem::Deb, Some("glibc")));
    let purl = packages[0].purl(Some("debian-12")).unwrap();
    assert_eq!(purl, "pkg:deb/debian/libc6@2.36-9%2Bdeb12u7?arch=amd64&distro=debian-12&upstream=glibc");
}

#[test]
fn images_without_dpkg_have_a_file_for_each_package() {
    let file = |name: &str| format!("Package: {name}\nVersion: 1.0\nArchitecture: amd64\n");
    let (base, tls) = (file("base-files"), file("libssl3"));
    let tree = Tree::new(&[
        ("var/lib/dpkg/status.d/base", &base),
        ("var/lib/dpkg/status.d/libssl3", &tls),
        ("var/lib/dpkg/status.d/base.md5sums", "0123  usr/share/x\n"),
    ]);
    assert_eq!(names(&tree.inventory().packages), ["base-files 1.0", "libssl3 1.0"]);
}

#[test]
fn apk_lists_what_is_installed() {
    let installed = "C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\nF:lib\nR:ld.so\n\nP:libcrypto3\nV:3.3.0-r2\n\
                     A:x86_64\nL:Apache-2.0\no:openssl\n\n";
    let tree = Tree::new(&[("etc/os-release", "ID=alpine\nVERSION_ID=3.20.0\n"), ("lib/apk/db/installed", installed)]);
    let Inventory { packages, release, .. } = tree.inventory();
    assert_eq!(names(&packages), ["libcrypto3 3.3.0-r2", "musl 1.2.5-r0"]);
    assert_eq!((packages[0].source.as_deref(), packages[1].source.as_deref()), (Some("openssl"), None));
    assert_eq!(packages[1].license.as_deref(), Some("MIT"));
    let purl = packages[1].purl(release.map(|release| release.distribution()).as_deref()).unwrap();
    assert_eq!(purl, "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.0");
}
