package joining

import (
	"errors"
	"testing"

	"github.com/holdfast-edge/holdfast/coord/trust/join"
)

func TestARefusalSaysItOnce(t *testing.T) {
	for why, want := range map[string]string{
		join.ErrUsed.Error() + ": by box 9856ad42092cdb7b": `joining: refused: ` + join.ErrUsed.Error() + `: "by box 9856ad42092cdb7b"`,
		join.ErrUsed.Error(): `joining: refused: ` + join.ErrUsed.Error(),
		"":                   `joining: refused: ` + join.ErrUsed.Error(),
		"ask\x1b[2J":         `joining: refused: ` + join.ErrUsed.Error() + `: "ask\x1b[2J"`,
	} {
		err := errorOf(&Answer{Code: join.Code(join.ErrUsed), Why: why})
		if !errors.Is(err, join.ErrUsed) || err.Error() != want+"; make another token with `holdfast site join-token` on a box of the site" {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}
