//! Templates as Go's text/template and Docker's formatter have them.

use proptest::prelude::*;

use super::list::Format;
use super::*;

fn data() -> Value {
    let text = r#"{"ID":"sha256:0123456789ab","Name":"app","Size":1234,"Ratio":0.5,"Empty":"","None":null,"Yes":true,
        "Tags":["app:1.0","app:latest"],"Config":{"Cmd":["sh","-c"],"Labels":{"b.c":"2","a":"1 <&>"},"User":"me"}}"#;
    serde_json::from_str(text).unwrap()
}

fn render(template: &str) -> String {
    match Template::parse(template).and_then(|template| template.render(&data())) {
        Ok(text) => text,
        Err(error) => format!("ERROR {error}"),
    }
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (template, expected) in cases {
        assert_eq!(render(template), *expected, "{template}");
    }
}

#[test]
fn fields_are_printed() {
    check(&[
        ("plain", "plain"),
        ("{{.Name}} has {{ .Size }}", "app has 1234"),
        ("{{.Config.User}}/{{.Config.Labels.a}}", "me/1 <&>"),
        ("{{.Config.Labels.other}}", "<no value>"),
        ("{{.None}} {{.Yes}} {{.Ratio}} {{.Tags}}", "<nil> true 0.5 [app:1.0 app:latest]"),
        ("{{.Config.Labels}}", "map[b.c:2 a:1 <&>]"),
        ("{{.None.Deeper}}", "<no value>"),
        ("{{$.Name}}{{(index .Tags 0)}}", "appapp:1.0"),
        ("{{\"q\\t\\u00e4\"}}{{`\\t`}}{{'a'}}{{-1}}{{0x10}}{{1.5}}", "q\tä\\t97-1161.5"),
    ]);
}

#[test]
fn json_keeps_the_order_and_escapes_nothing_for_the_web() {
    check(&[
        ("{{json .Config}}", r#"{"Cmd":["sh","-c"],"Labels":{"b.c":"2","a":"1 <&>"},"User":"me"}"#),
        ("{{json .None}}{{json .Size}}{{.Name | json}}", r#"null1234"app""#),
    ]);
}

#[test]
fn functions_are_those_of_go_and_docker() {
    check(&[
        ("{{upper .Name}}{{lower \"ÄB\"}}{{title \"the end-all\"}}", "APPäbThe End-All"),
        ("{{join .Tags \", \"}}|{{join .None \",\"}}", "app:1.0, app:latest|"),
        ("{{range split .ID \":\"}}<{{.}}>{{end}}", "<sha256><0123456789ab>"),
        ("{{len .Tags}} {{len .ID}} {{len .Config.Labels}} {{len .None}}", "2 19 2 0"),
        ("{{index .Config.Labels \"b.c\"}}|{{index .Config.Labels \"x\"}}|{{index .Config.Cmd 1}}", "2||-c"),
        ("{{slice .ID 7 11}} {{slice .Tags 1}}", "0123 [app:latest]"),
        ("{{pad .Name 1 2}}|{{truncate .ID 6}}", " app  |sha256"),
        ("{{print 1 2 \"x\" 3}} {{println 1 \"x\"}}", "1 2x3 1 x\n"),
        (
            "{{printf \"%-6s|%5d|%05d|%q|%.3s|%v|%t|%x|%.2f|%%\" .Name .Size 42 .Name .ID .Tags .Yes 255 .Ratio}}",
            "app   | 1234|00042|\"app\"|sha|[app:1.0 app:latest]|true|ff|0.50|%",
        ),
        ("{{printf \"%s\"}} {{printf \"%d\" .Name}} {{printf \"x\" 1}}", "%!s(MISSING) %!d(app) x%!(EXTRA 1)"),
        (
            "{{eq .Name \"x\" \"app\"}} {{ne .Size 1}} {{lt 1 2}} {{ge \"b\" \"a\"}} {{eq .None nil}}",
            "true true true true true",
        ),
        ("{{and .Yes .Empty}}|{{or .Empty .Name}}|{{not .None}}", "|app|true"),
        ("{{and .None (index .Tags 9)}}", "<nil>"),
        ("{{.Tags | len | printf \"%03d\"}}", "002"),
    ]);
}

#[test]
fn blocks_branch_and_repeat() {
    check(&[
        ("{{if .Empty}}a{{else if .Yes}}b{{else}}c{{end}}", "b"),
        ("{{if eq .Size 1}}a{{else}}c{{end}}", "c"),
        ("{{with .Config}}{{.User}}{{$.Name}}{{end}}{{with .None}}x{{else}}y{{end}}", "meappy"),
        ("{{with .None}}x{{else with .Config}}{{.User}}{{end}}", "me"),
        ("{{range .Tags}}{{.}};{{else}}none{{end}}{{range .None}}x{{else}}none{{end}}", "app:1.0;app:latest;none"),
        ("{{range $i, $t := .Tags}}{{$i}}={{$t}} {{end}}", "0=app:1.0 1=app:latest "),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "a=1 <&>;b.c=2;"),
        ("{{range $t := .Tags}}{{$t}}{{break}}{{end}}{{range .Tags}}{{continue}}x{{end}}", "app:1.0"),
        ("{{$x := 1}}{{range .Tags}}{{$x = .}}{{$y := 2}}{{end}}{{$x}}", "app:latest"),
    ]);
}

#[test]
fn white_space_and_comments_go_where_that_is_asked() {
    check(&[
        ("a \n {{- .Name -}} \t b", "aappb"),
        ("a {{- /* comment */ -}} b{{/* }} */}}c", "abc"),
        ("{{- 1}} {{-1}}", "1 -1"),
    ]);
}

#[test]
fn mistakes_have_a_place() {
    insta::assert_snapshot!(
        [
            "{{.Nam}}",
            "two\nlines {{.Config.Foo}}",
            "{{.Name.Deeper}}",
            "{{.Name",
            "{{\"open}}",
            "{{if .Yes}}",
            "{{end}}",
            "{{foo .}}",
            "{{len}}",
            "{{upper .Tags}}",
            "{{index .Tags 2}}",
            "{{.Name .ID}}",
            "{{$x}}",
            "{{range .Name}}{{end}}",
            "{{template \"x\"}}",
            "{{(.Name}}",
            "{{}}",
            "{{if .Yes}}{{else}}{{else}}{{end}}",
            "{{lt .Name 1}}",
            "ä{{#}}",
            "{{break}}",
        ]
        .map(|template| format!("{} => {}\n", template.escape_debug(), render(template)))
        .concat()
    );
}

#[test]
fn nesting_ends_somewhere() {
    let deep = format!("{{{{{}1{}}}}}", "(".repeat(200_000), ")".repeat(200_000));
    assert!(render(&deep).contains("nested deeper"), "parentheses");
    assert!(render(&"{{if 1}}".repeat(100_000)).contains("nested deeper"), "blocks");
    let chain = format!("{{{{if .None}}}}{}", "{{else if .None}}".repeat(100_000));
    assert!(render(&chain).contains("nested deeper"), "branches");
    assert!(render("{{printf \"%999999999999d\" 1}}").len() < 10_000);
    assert!(render("{{pad .Name 999999999 1}}").contains("ERROR"));
}

#[test]
fn lists_are_tables_json_or_templates() {
    let headings = [("Name", "NAME"), ("Size", "SIZE")];
    let thing = |name: &str, size: &str| Value::fields([("Name", name.to_owned()), ("Size", size.to_owned())]);
    let things = [thing("one", "1MB"), thing("a longer name", "22kB")];
    let list = |format: Option<&str>| {
        Format::parse(format, "{{.Name}}\t{{.Size}}").and_then(|format| format.render(&headings, &things))
    };
    let table = "NAME            SIZE\none             1MB\na longer name   22kB\n";
    assert_eq!(list(None).unwrap(), table);
    assert_eq!(list(Some("table")).unwrap(), table);
    assert_eq!(
        list(Some("table {{.Size}}\\t{{upper .Name}}")).unwrap(),
        "SIZE      NAME\n1MB       ONE\n22kB      A LONGER NAME\n"
    );
    assert_eq!(list(Some("json")).unwrap().lines().next(), Some(r#"{"Name":"one","Size":"1MB"}"#));
    assert_eq!(list(Some("{{.Size}}\\t{{.Name}}")).unwrap(), "1MB\tone\n22kB\ta longer name\n");
    assert!(list(Some("table {{.Foo}}")).unwrap_err().to_string().contains("`.Foo`"));
}

proptest! {
    #[test]
    fn nothing_typed_makes_it_panic(template in r#"(\{\{|\}\}|\{\{-|-\}\}| |\.|\.[A-Z][a-z]{1,3}|\$[a-z]?|:=|=|,|\||\(|\)|"|`|'|\\|if|else|end|range|with|len|index|printf|json|join|slice|%[0-9]*[a-z]|[0-9]|-|/\*|\*/|ä|\n){0,40}"#) {
        let _ = render(&template);
    }

    #[test]
    fn nothing_at_all_makes_it_panic(template in "\\PC{0,60}") {
        let _ = render(&format!("{{{{{template}}}}}"));
    }
}
