package access

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestTheTableOfActionsIsWhole(t *testing.T) {
	var names []string
	for _, a := range Actions() {
		names = append(names, a.String())
		if a.About() == "" || a.Area() == a.String() || a.Class() >= classes {
			t.Errorf("%q: %q, class %v", a, a.About(), a.Class())
		}
		if back, ok := ParseAction(a.String()); !ok || back != a {
			t.Errorf("%q is not found", a)
		}
	}
	if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("not in order, or twice: %q", names)
	}
	if _, ok := ParseAction("kv.gte"); ok {
		t.Error("kv.gte is found")
	}
	for c := range classes {
		if set, ok := namedActions(c.String()); !ok || set == (actionSet{}) {
			t.Errorf("class %v has no action", c)
		}
		for _, a := range Actions() {
			if a.Area() == c.String() {
				t.Errorf("%v is an area and a class", c)
			}
		}
	}
}

// Kinds of decisions and actions of records, as the tree writes them.
var used = regexp.MustCompile(`(?:\b(?:Action|action|Kind|kind)\b[^"\n]{0,20}|\(ctx, |Full[A-Za-z]*Name: +|(?:Add|Remove|Replace|Rotate|Edit|MakeToken|RevokeToken) += )"([a-z]+\.[a-z_]+)"`)

func TestEveryActionOfTheTreeIsInTheTable(t *testing.T) {
	found := 0
	for _, dir := range []string{"../../coord", "../../firmware", "../../store"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "sim" { // its clients decide on what nobody judges
				return fs.SkipDir
			}
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range used.FindAllSubmatch(text, -1) {
				found++
				if _, ok := ParseAction(string(m[1])); !ok && string(m[1]) != "area.verb" {
					t.Errorf("%s: %s is not in the table (coord/access/action.go)", path, m[1])
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 20 {
		t.Errorf("only %d found: the test looks for the wrong thing", found)
	}
}
