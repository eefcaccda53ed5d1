//! Records of BuildKit's cache: written from what is known of a build, and found for one.

use std::collections::{BTreeMap, HashMap, HashSet};

use kiln_solver::{Digest, Layer, StepId};

use super::dialect::Dialects;
use super::vertices::{Link, Vertex, Vertices};

/// A record that another hangs on, and what is selected of it.
type Hook = (usize, Option<Digest>);

/// A record: what something that goes by a key came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::remote_cache) struct Record<R> {
    pub(in crate::remote_cache) digest: Digest,
    /// What it hangs on: for each input, any of these records, with what is selected of it.
    pub(in crate::remote_cache) inputs: Vec<Vec<Hook>>,
    /// What it came to, where that is told.
    pub(in crate::remote_cache) result: Option<R>,
}

/// The records of a build: for each step what it came to, where that is known.
pub(in crate::remote_cache) fn records(
    vertices: &Vertices,
    results: &BTreeMap<StepId, Vec<Layer>>,
) -> Vec<Record<Vec<Layer>>> {
    let mut writer = Writer::default();
    for (id, vertex) in &vertices.of {
        writer.add(*id, vertex, results.get(id));
    }
    writer.join();
    writer.records
}

#[derive(Default)]
struct Writer {
    records: Vec<Record<Vec<Layer>>>,
    /// By digest and inputs: steps that BuildKit does not tell apart are one record.
    known: HashMap<(Digest, Vec<Vec<Hook>>), usize>,
    steps: HashMap<StepId, Vec<(Dialects, usize)>>,
}

impl Writer {
    fn add(&mut self, id: StepId, vertex: &Vertex, result: Option<&Vec<Layer>>) {
        let mut records = Vec::with_capacity(vertex.digests.len());
        for (dialects, digest) in &vertex.digests {
            let inputs = vertex.inputs.iter().map(|links| self.hooks(links, *dialects)).collect();
            records.push((*dialects, self.record(*digest, inputs, result)));
        }
        self.steps.insert(id, records);
    }

    /// Has one record hang on all that nothing hangs on. BuildKit reads a cache from such ends, and up to 0.25 loses
    /// hits where there are several.
    fn join(&mut self) {
        let used: HashSet<usize> =
            self.records.iter().flat_map(|record| record.inputs.iter().flatten().map(|(number, _)| *number)).collect();
        let ends: Vec<Hook> =
            (0..self.records.len()).filter(|end| !used.contains(end)).map(|end| (end, None)).collect();
        if ends.len() > 1 {
            self.record(Digest::of(b"kiln.end.v1"), vec![ends], None);
        }
    }

    /// What a record that these generations write hangs on.
    fn hooks(&mut self, links: &[Link], dialects: Dialects) -> Vec<Hook> {
        let mut hooks = Vec::new();
        for link in links {
            match link {
                Link::Content(hashing, digest) if hashing.meet(dialects) => {
                    hooks.push((self.record(*digest, Vec::new(), None), None));
                }
                Link::Step(step, selecting, selector) if selecting.meet(dialects) => {
                    let records = self.steps.get(step).map_or(&[][..], Vec::as_slice);
                    let met = records.iter().filter(|(there, _)| there.meet(dialects));
                    hooks.extend(met.map(|(_, record)| (*record, *selector)));
                }
                Link::Step(..) | Link::Content(..) => {}
                Link::Made(vertex) => {
                    for (making, digest) in vertex.digests.iter().filter(|(making, _)| making.meet(dialects)) {
                        let inputs = vertex.inputs.iter().map(|links| self.hooks(links, *making)).collect();
                        hooks.push((self.record(*digest, inputs, None), None));
                    }
                }
            }
        }
        hooks
    }

    fn record(&mut self, digest: Digest, inputs: Vec<Vec<Hook>>, result: Option<&Vec<Layer>>) -> usize {
        let records = &mut self.records;
        let number = *self.known.entry((digest, inputs)).or_insert_with_key(|(digest, inputs)| {
            records.push(Record { digest: *digest, inputs: inputs.clone(), result: None });
            records.len() - 1
        });
        if let Some(record) = records.get_mut(number) {
            record.result = record.result.take().or_else(|| result.cloned());
        }
        number
    }
}

/// Which of these records are those of which step: any of them is as good as another.
pub(in crate::remote_cache) fn find<R>(vertices: &Vertices, records: &[Record<R>]) -> BTreeMap<StepId, Vec<usize>> {
    let mut by_digest: HashMap<&Digest, Vec<usize>> = HashMap::new();
    for (number, record) in records.iter().enumerate() {
        by_digest.entry(&record.digest).or_default().push(number);
    }
    let mut finder = Finder { records, found: BTreeMap::new() };
    for (id, vertex) in &vertices.of {
        let mut found = Vec::new();
        for (dialects, digest) in &vertex.digests {
            let all = by_digest.get(digest).map_or(&[][..], Vec::as_slice);
            let fits = |number: &&usize| finder.fits(vertex, *dialects, **number);
            found.extend(all.iter().filter(fits).map(|number| (*dialects, *number)));
        }
        if !found.is_empty() {
            finder.found.insert(*id, found);
        }
    }
    let numbers = |found: Vec<(Dialects, usize)>| found.into_iter().map(|(_, number)| number).collect();
    finder.found.into_iter().map(|(id, found)| (id, numbers(found))).collect()
}

struct Finder<'a, R> {
    records: &'a [Record<R>],
    found: BTreeMap<StepId, Vec<(Dialects, usize)>>,
}

impl<R> Finder<'_, R> {
    /// Whether a record with the digest that these generations give hangs on the right records, too.
    fn fits(&self, vertex: &Vertex, dialects: Dialects, record: usize) -> bool {
        let Some(record) = self.records.get(record) else { return false };
        let hangs = |(links, hooks): (&Vec<Link>, &Vec<Hook>)| {
            let hooks: HashSet<&Hook> = hooks.iter().collect();
            links.iter().any(|link| self.hangs(link, dialects, &hooks))
        };
        vertex.inputs.len() == record.inputs.len() && vertex.inputs.iter().zip(&record.inputs).all(hangs)
    }

    fn hangs(&self, link: &Link, dialects: Dialects, hooks: &HashSet<&Hook>) -> bool {
        match link {
            Link::Content(hashing, digest) => hooks.iter().any(|(number, selector)| {
                let there = self.records.get(*number).filter(|_| selector.is_none() && hashing.meet(dialects));
                there.is_some_and(|there| there.digest == *digest && there.inputs.is_empty())
            }),
            Link::Made(vertex) => hooks.iter().any(|(number, selector)| {
                let digest = self.records.get(*number).filter(|_| selector.is_none()).map(|there| there.digest);
                let mut making = vertex.digests.iter().filter(|(making, _)| making.meet(dialects));
                making.any(|(making, known)| Some(*known) == digest && self.fits(vertex, *making, *number))
            }),
            Link::Step(step, selecting, selector) => {
                let found = self.found.get(step).map_or(&[][..], Vec::as_slice);
                let mut met = found.iter().filter(|(there, _)| there.meet(dialects));
                selecting.meet(dialects) && met.any(|(_, number)| hooks.contains(&(*number, *selector)))
            }
        }
    }
}
