//! A syntax tree as a Dockerfile: each instruction on one line, its heredocs behind it, nothing between.

use kiln_parser::{Annotations, Copy, Directives, Dockerfile, Heredoc, Instruction, Kind, Run};

/// A Dockerfile that says the same.
pub(crate) fn print(dockerfile: &Dockerfile) -> String {
    let mut out = String::new();
    directives(&mut out, &dockerfile.directives);
    for one in &dockerfile.instructions {
        instruction(&mut out, one, dockerfile.directives.escape);
    }
    out
}

fn directives(out: &mut String, directives: &Directives) {
    out.push_str(&format!("# escape={}\n", directives.escape));
    for (name, value) in [("syntax", &directives.syntax), ("check", &directives.check)] {
        if let Some(value) = value {
            out.push_str(&format!("# {name}={}\n", value.value));
        }
    }
}

fn annotations(out: &mut String, annotations: &Annotations) {
    for (name, on) in [("always", annotations.always), ("untraced", annotations.untraced)] {
        if on {
            out.push_str(&format!("# kiln: {name}\n"));
        }
    }
    for name in &annotations.ignored_arguments {
        out.push_str(&format!("# kiln: ignore-arg={}\n", name.value));
    }
}

fn instruction(out: &mut String, instruction: &Instruction, escape: char) {
    annotations(out, &instruction.annotations);
    out.push_str(&instruction.text);
    if instruction.text.ends_with(escape) {
        // White space that belongs to no continuation mark: the line must not go on.
        out.push('\u{c}');
    }
    out.push('\n');
    match &instruction.kind {
        Kind::Run(Run { heredocs, .. }) | Kind::Copy(Copy { heredocs, .. }) | Kind::Add(Copy { heredocs, .. }) => {
            heredocs.iter().for_each(|heredoc| body(out, heredoc));
        }
        Kind::Onbuild(onbuild) => {
            if let Some((_, bodies)) = onbuild.text.value.split_once('\n') {
                out.push_str(bodies);
                out.push('\n');
            }
        }
        _ => {}
    }
}

fn body(out: &mut String, heredoc: &Heredoc) {
    out.push_str(&heredoc.content);
    out.push_str(&heredoc.name);
    out.push('\n');
}
