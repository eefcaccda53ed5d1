//! What of the machine must stay as it is.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

use super::MARK;

/// Settings of the kernel that somebody who could write to them would profit of.
const SETTINGS: &[&str] = &[
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/sysrq",
    "/proc/sys/kernel/randomize_va_space",
    "/proc/sys/kernel/ctrl-alt-del",
    "/proc/sys/kernel/dmesg_restrict",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/swappiness",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv4/ping_group_range",
    "/proc/sys/fs/suid_dumpable",
    "/proc/irq/default_smp_affinity",
    "/sys/kernel/uevent_helper",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/proc/swaps",
    "/proc/self/cgroup",
    "/proc/self/limits",
    "/proc/self/uid_map",
];

/// Where traces would show of what attempts make.
const TRACES: &[&str] = &[
    "/proc/self/mountinfo",
    "/proc/keys",
    "/proc/key-users",
    "/proc/modules",
    "/proc/mounts",
    "/proc/net/unix",
    "/sys/kernel/debug/tracing/kprobe_events",
];

/// Directories in which nothing must be made.
const PLACES: &[&str] = &["/", "/tmp", "/dev", "/run", "/etc", "/sys/fs/cgroup", "/sys/fs/cgroup/devices"];

const TEXT: &str = "untouched";

/// What an attempt could do something to, and how things were.
pub struct Machine {
    victim: Mutex<Child>,
    file: PathBuf,
    memory: Box<[u8; 9]>,
    layers: Vec<PathBuf>,
    before: BTreeMap<String, String>,
}

impl Machine {
    /// Looks around. `directory` is for things of its own, `layers` are what steps see.
    pub fn new(directory: &Path, layers: &[&Path]) -> Self {
        let file = directory.join("victim");
        fs::write(&file, TEXT).unwrap();
        // It reads from a pipe, so that it ends with this process, however that ends.
        let victim = Mutex::new(Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap());
        let mut memory = Box::new([0; 9]);
        memory.copy_from_slice(TEXT.as_bytes());
        let layers = layers.iter().map(|layer| layer.to_path_buf()).collect();
        let mut machine = Self { victim, file, memory, layers, before: BTreeMap::new() };
        machine.before = machine.look();
        machine
    }

    /// A process.
    pub fn victim(&self) -> u32 {
        self.victim.lock().unwrap().id()
    }

    /// A file with [`TEXT`] in it.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Where this process has the same in memory.
    pub fn address(&self) -> usize {
        self.memory.as_ptr() as usize
    }

    /// The numbers of the disk that the machine's root is on, or of any disk.
    pub fn disk(&self) -> (u32, u32) {
        let disks = fs::read_to_string("/proc/partitions").unwrap();
        let mut lines = disks.lines().skip(2).map(|line| line.split_whitespace());
        let root = fs::metadata("/").unwrap().dev();
        let root = (rustix::fs::major(root), rustix::fs::minor(root));
        let numbers: Vec<(u32, u32)> = lines
            .by_ref()
            .map(|mut words| (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap()))
            .collect();
        if numbers.contains(&root) { root } else { *numbers.first().unwrap_or(&(8, 0)) }
    }

    pub fn assert_unchanged(&self) {
        let mut victim = self.victim.lock().unwrap();
        let ended = victim.try_wait().unwrap();
        assert!(ended.is_none(), "the victim is dead: {:?}", ended.map(|status| status.signal()));
        drop(victim);
        let now = self.look();
        for (what, before) in &self.before {
            assert_eq!(Some(before), now.get(what), "{what} was changed");
        }
        assert_eq!(now.len(), self.before.len());
        // All clocks that attempts set go to the year 2001.
        assert!(UNIX_EPOCH.elapsed().unwrap().as_secs() > 1_500_000_000);
        for trace in TRACES {
            let text = fs::read_to_string(trace).unwrap_or_default();
            assert!(!text.contains(MARK) && !text.contains("kiln_escape"), "{trace}: {text}");
        }
        for place in PLACES {
            assert!(!Path::new(place).join(MARK).exists(), "{place} has a {MARK}");
        }
    }

    /// Everything that can be compared, by what it is.
    fn look(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for path in SETTINGS {
            all.insert((*path).to_owned(), fs::read_to_string(path).unwrap_or_default());
        }
        for namespace in fs::read_dir("/proc/self/ns").unwrap() {
            let path = namespace.unwrap().path();
            all.insert(path.to_string_lossy().into_owned(), fs::read_link(&path).unwrap().to_string_lossy().into());
        }
        let victim = self.victim();
        let status = fs::read_to_string(format!("/proc/{victim}/status")).unwrap();
        let kept = ["State:", "TracerPid:", "Uid:", "Seccomp:", "Cpus_allowed:", "Mems_allowed:"];
        let status: Vec<&str> =
            status.lines().filter(|line| kept.iter().any(|field| line.starts_with(field))).collect();
        // It may still be on its way to sleep, or run for a moment.
        let status = status.join("\n").replace("R (running)", "S (sleeping)").replace("D (disk sleep)", "S (sleeping)");
        all.insert("the victim".into(), status);
        let limits = fs::read_to_string(format!("/proc/{victim}/limits")).unwrap();
        all.insert("the victim's limits".into(), limits);
        let stat = fs::read_to_string(format!("/proc/{victim}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        // priority, nice, …, real-time priority, policy
        all.insert("the victim's priority".into(), [fields[15], fields[16], fields[37], fields[38]].join(" "));
        all.insert("the memory".into(), String::from_utf8_lossy(&*self.memory).into_owned());
        all.insert(
            "the file".into(),
            format!("{:?} {}", describe(&self.file), fs::read_to_string(&self.file).unwrap()),
        );
        all.insert("this program".into(), describe(Path::new("/proc/self/exe")));
        for layer in &self.layers {
            walk(layer, &mut all);
        }
        all
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let mut victim = self.victim.lock().unwrap();
        let _ = victim.kill();
        let _ = victim.wait();
    }
}

fn walk(path: &Path, all: &mut BTreeMap<String, String>) {
    let metadata = path.symlink_metadata().unwrap();
    all.insert(path.to_string_lossy().into_owned(), describe(path));
    if metadata.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| walk(&entry.unwrap().path(), all));
    }
}

/// No change of a file leaves its change time alone.
fn describe(path: &Path) -> String {
    let path = if path.starts_with("/proc") { fs::read_link(path).unwrap() } else { path.to_owned() };
    let all = path.symlink_metadata().unwrap();
    let (mode, size) = (all.mode(), all.size());
    format!(
        "{mode:o} {}:{} {size} {}.{} {}.{}",
        all.uid(),
        all.gid(),
        all.mtime(),
        all.mtime_nsec(),
        all.ctime(),
        all.ctime_nsec()
    )
}
