//! Whole steps, as the solver hands them over.

use super::*;
use crate::{BoxError, Executor, ImageLayers, Settings};
use kiln_solver::{Graph, Job, Observer, StepError, Worker};

struct NoImages;
impl ImageLayers for NoImages {
    fn stack(&self, image: &Digest) -> Result<Vec<Layer>, BoxError> {
        Err(format!("no image {image}").into())
    }
    fn ensure(&self, _: &[Layer], _: &Cancel) -> Result<(), BoxError> {
        Ok(())
    }
}
struct Quiet;
impl Observer for Quiet {}

fn executor(world: &World) -> Executor {
    let Tree::Context(context) = world.context() else { unreachable!() };
    let settings = crate::sandbox::SandboxSettings {
        identity: crate::rootless::Identity::Root,
        directory: world.directory.path().join("sandbox"),
        resolv_conf: Vec::new(),
        own_resolv_conf: Vec::new(),
        hosts: Vec::new(),
    };
    Executor::new(Settings {
        store: world.store.clone(),
        contexts: BTreeMap::from([("context".to_owned(), context)]),
        images: Arc::new(NoImages),
        sandbox: Arc::new(crate::sandbox::Sandbox::new(settings)),
        created: Some(now()),
    })
}

fn run(executor: &Executor, actions: Vec<FileAction>, inputs: &[Output]) -> Result<Vec<Output>, StepError> {
    let step = Step::new(Operation::File(actions), "test");
    let mut graph = Graph::new();
    let id = graph.add(step.clone());
    Ok(executor.run(Job { id, step: &step, inputs, cancel: &Cancel::new(), observer: &Quiet })?.outputs)
}

fn action(base: Option<usize>, from: Option<usize>, output: Option<u32>, kind: FileActionKind) -> FileAction {
    FileAction { base, from, output, kind }
}

#[test]
fn actions_that_build_on_each_other_make_one_layer() {
    let world = World::new(&["a", "b", "dir/c"]);
    let base = world.layer(&["etc/x"]);
    let copy = |source| FileActionKind::Copy(from_to(source, "/to/"));
    let actions = vec![
        action(Some(0), Some(1), None, copy("a")),
        action(Some(2), Some(1), None, copy("b")),
        action(Some(3), Some(1), Some(0), copy("dir")),
    ];
    let inputs = [Output::Layers(base), Output::Local("context".to_owned())];
    let outputs = run(&executor(&world), actions, &inputs).unwrap();
    let [Output::Layers(layers)] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!(layers.len(), 2);
    assert_eq!(world.show(layers), ["etc/", "etc/x=etc/x", "to/", "to/a=a", "to/b=b", "to/c=dir/c"]);
}

/// `COPY --link`: as if the destination were empty.
#[test]
fn a_linked_copy_sees_nothing_of_its_base() {
    let world = World::new(&["a", "b"]);
    let executor = executor(&world);
    let base = world.layer(&["link->real", "real/x", "old/y", "file"]);
    let linked = |destination| FileActionKind::Copy(CopyAction { linked: true, ..from_to("a", destination) });
    let actions = vec![
        action(Some(0), Some(1), None, linked("/link/")),
        action(Some(2), Some(1), None, linked("/real/sub/")),
        action(Some(3), Some(1), None, linked("/file/a")),
        action(Some(4), Some(1), Some(0), linked("/old")),
    ];
    let inputs = [Output::Layers(base.clone()), Output::Local("context".to_owned())];
    let outputs = run(&executor, actions.clone(), &inputs).unwrap();
    let [Output::Layers(layers)] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!(layers[..base.len()], base, "it lies above its base");
    let all =
        ["file/", "file/a=a", "link/", "link/a=a", "old=a", "real/", "real/sub/", "real/sub/a=a", "real/x=real/x"];
    assert_eq!(world.show(layers), all);
    // Above another base it is the same layer.
    let other = world.layer(&["link/real", "old->y"]);
    let inputs = [Output::Layers(other), Output::Local("context".to_owned())];
    let outputs = run(&executor, actions, &inputs).unwrap();
    let [Output::Layers(others)] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!(others.last(), layers.last());
}

#[test]
fn nothing_is_copied_from_scratch() {
    let world = World::new(&[]);
    let copy = FileActionKind::Copy(CopyAction { wildcard: false, ..from_to("", "/to") });
    let outputs = run(&executor(&world), vec![action(None, None, Some(0), copy)], &[]).unwrap();
    let [Output::Layers(layers)] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!(world.show(layers), ["to/"]);
}

#[test]
fn workdir_makes_what_is_missing_and_nothing_else() {
    let world = World::new(&[]);
    let executor = executor(&world);
    let base = world.layer(&["app/", "link->app"]);
    let mkdir = |path: &str| {
        let mkdir = MkdirAction { path: path.to_owned(), mode: 0o755, owner: None };
        let actions = vec![action(Some(0), None, Some(0), FileActionKind::Mkdir(mkdir))];
        let outputs = run(&executor, actions, &[Output::Layers(base.clone())])?;
        let [Output::Layers(layers)] = outputs.as_slice() else { panic!("{outputs:?}") };
        let layer = world.store.layer(&layers[1].diff_id).unwrap().unwrap();
        let paths = layer.index().entries().map(|entry| String::from_utf8_lossy(entry.path).into_owned());
        Ok::<Vec<String>, StepError>(paths.collect())
    };
    assert_eq!(mkdir("/app").unwrap(), Vec::<String>::new());
    assert_eq!(mkdir("/link").unwrap(), Vec::<String>::new());
    assert_eq!(mkdir("/link/src/x").unwrap(), ["app", "app/src", "app/src/x"]);
    assert_eq!(mkdir("/new").unwrap(), ["new"]);
    assert!(mkdir("/").unwrap().is_empty());
}

#[test]
fn files_of_known_content_are_made_and_copied() {
    let world = World::new(&[]);
    let executor = executor(&world);
    let mkfile = |path: &str, content: &str, mode| {
        let owner = Some(Owner { user: UserRef::Id(5), group: None });
        FileActionKind::Mkfile(MkfileAction { path: path.to_owned(), mode, content: content.to_owned(), owner })
    };
    let base = world.layer(&["etc/conf", "link->etc", "dir/"]);
    let actions = vec![
        action(None, None, None, mkfile("/one", "1\n", 0o644)),
        action(Some(1), None, None, mkfile("/sub/two", "2", 0o755)),
        action(Some(0), Some(2), None, FileActionKind::Copy(from_to("one", "/to/"))),
        action(Some(3), Some(2), None, FileActionKind::Copy(from_to("sub/two", "/to/renamed"))),
        action(Some(4), None, Some(0), mkfile("/link/conf", "new", 0o600)),
    ];
    let outputs = run(&executor, actions, &[Output::Layers(base.clone())]).unwrap();
    let [Output::Layers(layers)] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!(layers.len(), 2, "one layer for all");
    let expected = ["dir/", "etc/", "etc/conf=new", "link->etc", "to/", "to/one=1\n", "to/renamed=2"];
    assert_eq!(world.show(layers), expected);
    let view = world.view(layers);
    let entry = |path: &str| view.entry(path.as_bytes()).map(|found| (found.entry.mode, found.entry.uid)).unwrap();
    assert_eq!((entry("etc/conf"), entry("to/renamed"), entry("to")), ((0o600, 5), (0o755, 5), (0o755, 0)));
    let error =
        run(&executor, vec![action(Some(0), None, Some(0), mkfile("/dir", "", 0o644))], &[Output::Layers(base)]);
    assert!(error.unwrap_err().to_string().contains("cannot replace directory `/dir`"));
}

#[test]
fn a_step_that_makes_no_sense_is_an_error() {
    let world = World::new(&["a"]);
    let executor = executor(&world);
    let copy = || FileActionKind::Copy(from_to("a", "/"));
    let local = [Output::Local("context".to_owned())];
    for actions in [
        vec![action(Some(0), Some(0), Some(0), copy())],
        vec![action(None, None, Some(0), copy())],
        vec![action(None, Some(9), Some(0), copy())],
        vec![action(Some(1), Some(0), Some(0), copy())],
        vec![action(None, Some(0), Some(7), copy())],
    ] {
        assert!(run(&executor, actions.clone(), &local).is_err(), "{actions:?}");
    }
    let unknown = [Output::Local("other".to_owned())];
    let error = run(&executor, vec![action(None, Some(0), Some(0), copy())], &unknown).unwrap_err();
    assert_eq!(error.to_string(), "there is no build context named `other`");
}

#[test]
fn the_content_of_a_base_is_its_identity_and_that_of_a_source_what_is_selected() {
    let world = World::new(&["a"]);
    let executor = executor(&world);
    let mut step = Step::new(Operation::File(Vec::new()), "test");
    step.operation = Operation::File(vec![action(Some(0), Some(1), Some(0), FileActionKind::Copy(from_to("a", "/")))]);
    let content =
        |input, layers: Vec<Layer>| executor.content(&step, input, &Output::Layers(layers), &Cancel::new()).unwrap();
    let stamped = |seconds| {
        world.layer_of(|root| {
            fill(root, &["a"]);
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            fs::File::open(root.join("a")).unwrap().set_modified(time).unwrap();
        })
    };
    let (one, other) = (stamped(1), stamped(2));
    assert_ne!(one, other);
    assert_eq!(content(0, one.clone()), content(0, other.clone()), "times are no part of a content digest");
    assert_eq!(content(1, one.clone()), content(1, other));
    let more = world.layer(&["b"]);
    assert_ne!(content(0, [one.clone(), more.clone()].concat()), content(0, one.clone()));
    assert_eq!(content(1, [one.clone(), more].concat()), content(1, one));
    let gone = Layer { diff_id: Digest::of(b"gone"), origin: Origin::Built };
    assert_eq!(content(0, vec![gone]), None);
}
