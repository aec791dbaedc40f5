package alarms

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of docs/alarms.md")

// The table of docs/alarms.md is that of the rules, with what each means and what to do.
func TestTheTableOfRulesIsThatOfTheRules(t *testing.T) {
	const file, mark = "../../docs/alarms.md", "`go test ./firmware/alarms -run TestTheTable -update` -->\n"
	rules, err := ParseRules(BuiltinText(), "", anyQuery)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, r := range rules {
		fmt.Fprintf(&b, "\n### %s\n%s, of the %s. Fires after %v, is over when away for %v. *%s*\n\n%s\n\n**What to do:** %s\n\n    %s\n",
			r.Name, r.Severity(), r.Labels[LabelScope], r.For, r.KeepFiring, strings.ReplaceAll(r.Annotations[annotationSummary], "$", ""),
			r.Annotations[annotationDescription], r.Annotations[annotationAction], strings.Join(strings.Fields(r.Expr), " "))
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, table, found := strings.Cut(string(text), mark)
	if !found {
		t.Fatalf("%s has no place for the rules", file)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+mark+b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != b.String() {
		t.Errorf("%s is not what the rules say: run the test with -update", file)
	}
}
