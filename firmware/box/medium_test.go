package box

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/firmware/supervise/status"
)

func TestAMistakeOnTheBootMediumIsSaidWherePeopleLook(t *testing.T) {
	file := filepath.Join(t.TempDir(), "status.json")
	if got := mediumNotice(file); got != "" {
		t.Errorf("no appliance: %q", got)
	}
	for said, want := range map[string]string{
		"applied; the box makes a site":                             "",
		status.NotUsed + "line 2: there is no key system.watchdogg": "line 2: there is no key system.watchdogg",
	} {
		if err := status.Write(file, &status.Status{Provisioned: said}); err != nil {
			t.Fatal(err)
		}
		if got := mediumNotice(file); !strings.HasSuffix(got, want) || (want == "") != (got == "") {
			t.Errorf("%q: %q", said, got)
		}
	}
}
