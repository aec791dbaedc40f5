package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
)

// A record is in the log, the site signs it, its proof holds without a box, and a log that is changed on the disk is found out, by the heads
// that another box has too.
func TestWhatIsDoneOnABoxIsRecordedProvedAndCannotBeChangedUnseen(t *testing.T) {
	s := newSite(t)
	s.start()
	dir := s.ready().Boxes[0].Dir
	socket := "unix://" + filepath.Join(dir, "holdfast.sock")
	other := "unix://" + filepath.Join(s.ready().Boxes[1].Dir, "holdfast.sock")
	sites := filepath.Join(dir, "site.json")
	run := func(args ...string) (string, error) {
		var out, errs bytes.Buffer
		cmd := exec.Command(s.program, args...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			return out.String(), fmt.Errorf("%w: %s", err, errs.String())
		}
		return out.String(), nil
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := run(args...)
		if err != nil {
			t.Fatal(args, err)
		}
		return out
	}
	post := func(path, body string) int {
		t.Helper()
		resp, err := http.Post("http://127.0.0.1:"+strconv.Itoa(s.base+40)+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	find := func(action string) (found audit.Entry) {
		t.Helper()
		s.await("a record of "+action, func() error {
			out, err := run("audit", "list", "--addr", socket, "--json", "--action", action)
			if err != nil {
				return err
			}
			line, _, _ := strings.Cut(out, "\n")
			if line == "" {
				return errors.New("not there")
			}
			return json.Unmarshal([]byte(line), &found)
		})
		return found
	}
	for range 3 {
		if code := post("/v3/kv/put", `{"key":"aw==","value":"dg=="}`); code != http.StatusOK {
			t.Fatal(code)
		}
	}
	if code := post("/v3/kv/compaction", `{"revision":"2"}`); code != http.StatusOK {
		t.Fatal(code)
	}
	if code := post("/v3/kv/compaction", `{"revision":"1"}`); code == http.StatusOK {
		t.Fatal("compacted twice")
	}
	if e := find("kv.compact"); e.Outcome != audit.Allowed || e.Revision != 2 || e.Source == "" {
		t.Errorf("%+v", e)
	}
	if out := must("audit", "list", "--addr", socket, "--outcome", "failed"); !strings.Contains(out, "kv.compact") || !strings.Contains(out, "compacted") {
		t.Errorf("the refused compaction: %s", out)
	}
	if out := must("audit", "list", "--addr", socket); !strings.Contains(out, "box.start") {
		t.Errorf("%s", out)
	}
	if resp, err := http.Get("http://127.0.0.1:" + strconv.Itoa(s.base) + "/api/v1/audit"); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("the audit log over the network: %v %v", resp, err)
	}

	// A start has the log signed at once.
	s.stop()
	s.start()
	e := find("kv.compact")
	proof := filepath.Join(t.TempDir(), "proof.json")
	s.await("the site signs", func() error {
		_, err := run("audit", "prove", "--addr", socket, "--out", proof, strconv.FormatInt(e.Index, 10))
		return err
	})
	if out := must("audit", "check", proof, "--site", sites); !strings.Contains(out, "PROVEN") || !strings.Contains(out, "kv.compact") {
		t.Errorf("%s", out)
	}
	text, err := os.ReadFile(proof)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(proof, bytes.Replace(text, []byte("kv.compact"), []byte("kv.nothing"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run("audit", "check", proof, "--site", sites); err == nil {
		t.Errorf("a changed proof: %s", out)
	}
	if out := must("audit", "verify", "--addr", socket, "--site", sites); !strings.Contains(out, "as it was") {
		t.Errorf("%s", out)
	}
	var box coord.BoxID
	if err := box.UnmarshalText([]byte(s.ready().Boxes[0].ID)); err != nil {
		t.Fatal(err)
	}
	heads := filepath.Join(t.TempDir(), "heads.jsonl")
	s.await("another box has the heads", func() error {
		if out, err := run("audit", "heads", "--addr", other, "--box", box.String(), "--out", heads); err != nil {
			return fmt.Errorf("%s: %w", out, err)
		}
		text, err := os.ReadFile(heads)
		if err == nil && len(text) == 0 {
			err = errors.New("none")
		}
		return err
	})
	raw := filepath.Join(t.TempDir(), "log.jsonl")
	must("audit", "export", "--addr", socket, "--format", "archive", "--out", raw)
	must("audit", "verify", "--heads", heads, "--site", sites, raw)
	for format, want := range map[string]string{"ocsf": `"class_uid":`, "cef": "CEF:0|", "json": `"action":"kv.compact"`} {
		if out := must("audit", "export", "--addr", socket, "--format", format); !strings.Contains(out, want) {
			t.Errorf("%s: %s", format, out)
		}
	}

	// Somebody who has the box changes the file.
	s.stop()
	file := filepath.Join(dir, "audit.db")
	if text, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.ReplaceAll(text, []byte("kv.compact"), []byte("kv.nothing")), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	for _, args := range [][]string{
		{"audit", "verify", "--addr", socket, "--site", sites},
		{"audit", "verify", "--addr", socket, "--site", sites, "--heads", heads},
	} {
		out, err := run(args...)
		if err == nil || !strings.Contains(out, fmt.Sprintf("record %d was edited", e.Index)) {
			t.Errorf("%v: %s %v", args, out, err)
		}
	}
}
