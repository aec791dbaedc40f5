package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/holdfast-edge/holdfast/"

// allowed is the import table of the tree: a package may import what stands in its row, and what is
// below its own folder. The longest row that matches counts; * is everything.
var allowed = map[string][]string{
	"boards":        {},
	"hal":           {"boards"},
	"hal/linux":     {"hal", "boards"},
	"hal/haltest":   {"hal", "boards"},
	"hal/work":      {"hal", "hal/linux", "boards"},
	"hal/tpm":       {},
	"coord":         {"coord/kv"},
	"coord/kv":      {},
	"coord/wire":    {"coord"},
	"coord/batch":   {"coord"},
	"coord/bft":     {"coord"},
	"coord/link":    {"coord", "coord/wire"},
	"coord/state":   {"coord", "coord/kv", "coord/audit"},
	"coord/trust":   {"coord"},
	"coord/audit":   {"coord"},
	"coord/access":  {"coord", "coord/audit", "coord/state", "coord/trust", "coord/trust/join", "coord/trust/roster", "coord/release", "coord/rollout"},
	"coord/release": {"coord"},
	"coord/rollout": {"coord"},
	"coord/private": {"coord", "coord/state"},
	"coord/predict": {"coord", "coord/state"},
	"coord/tune":    {"coord", "coord/state"},
	"coord/content": {"coord", "coord/state"},
	"coord/observe": {},
	"coord/anomaly": {},
	"coord/trace":   {"coord", "coord/kv"},
	"coord/replay":  {"coord", "coord/state"},
	"coord/cause":   {"coord", "coord/kv", "coord/trace"},
	"coord/client":  {"coord", "coord/trace", "coord/wire"},
	"coord/site":    {"coord", "coord/audit", "coord/kv", "coord/wire", "coord/batch", "coord/bft", "coord/link", "coord/state", "coord/trace", "coord/trust", "coord/trust/suspicion"},
	"coord/liar":    {"coord"},
	"coord/sim":     {"coord", "coord/kv", "coord/liar", "coord/wire", "coord/batch", "coord/bft", "coord/state", "coord/trust", "coord/trust/suspicion", "coord/site"},
	"store":         {"coord", "coord/wire", "coord/audit"},
	"firmware":      {"*"},
	"tools":         {"*"},
}

// only are the packages that alone may import a module from outside.
var only = map[string]string{
	"github.com/vmihailenco/msgpack/":   "coord/wire",
	"github.com/golang/snappy":          "coord/wire",
	"go.etcd.io/bbolt":                  "store",
	"github.com/mdlayher/":              "hal/linux",
	"golang.org/x/mod/":                 "coord/audit",
	"github.com/google/go-tpm/":         "hal/tpm",
	"github.com/cedar-policy/":          "coord/access",
	"github.com/prometheus/prometheus/": "firmware/history",
	"github.com/go-webauthn/":           "firmware/passkey",
	"github.com/insomniacslk/dhcp/":     "firmware/supervise/netconf",
	"github.com/vishvananda/netlink":    "firmware/supervise/netconf",
}

type pkg struct {
	ImportPath, Doc                string
	Imports, TestImports           []string
	GoFiles, TestGoFiles, CgoFiles []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Doc,Imports,TestImports,GoFiles,TestGoFiles,CgoFiles", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var ps []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return ps
		} else if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
}

// row is the entry of the table that a folder falls under.
func row(folder string) (string, bool) {
	for f := folder; f != ""; {
		if _, ok := allowed[f]; ok {
			return f, true
		}
		i := strings.LastIndexByte(f, '/')
		if i < 0 {
			break
		}
		f = f[:i]
	}
	return "", false
}

func TestImportsGoDownTheTableOnly(t *testing.T) {
	for _, p := range packages(t) {
		folder := strings.TrimPrefix(p.ImportPath, module)
		r, ok := row(folder)
		if !ok || (r == "coord" && folder != "coord") {
			t.Errorf("%s stands in no row of the table: add it, with what it may import", folder)
			continue
		}
		for _, i := range p.Imports {
			to, ours := strings.CutPrefix(i, module)
			if ours && !slices.Contains(allowed[r], "*") && !slices.Contains(allowed[r], to) && to != r && !strings.HasPrefix(to, r+"/") {
				t.Errorf("%s imports %s: the table does not allow it", folder, to)
			}
			for prefix, owner := range only {
				if strings.HasPrefix(i, prefix) && folder != owner {
					t.Errorf("%s imports %s: only %s may", folder, i, owner)
				}
			}
		}
	}
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && len(strings.Fields(p.Doc)) < 6 {
			t.Errorf("%s has no package comment worth the name: %q", p.ImportPath, p.Doc)
		}
	}
}

// What decides takes its input, time and chance from outside.
func TestWhatDecidesDoesNoIO(t *testing.T) {
	pure := []string{
		"hal", "coord", "coord/wire", "coord/batch", "coord/bft", "coord/state", "coord/audit", "coord/trust/suspicion",
		"coord/trust/join", "coord/trust/limit", "coord/trust/roster", "coord/access",
		"coord/anomaly", "coord/trace", "coord/cause", "coord/release", "coord/rollout",
	}
	for _, p := range packages(t) {
		folder := strings.TrimPrefix(p.ImportPath, module)
		if !slices.Contains(pure, folder) {
			continue
		}
		for _, i := range p.Imports {
			if i == "net" || i == "os" || i == "math/rand" || i == "math/rand/v2" || i == "crypto/rand" {
				t.Errorf("%s decides, so it may not import %s", folder, i)
			}
		}
	}
}
