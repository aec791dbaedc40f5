package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

// Taken is a bundle that a box has taken.
type Taken struct {
	Bundle  coord.Digest `json:"bundle"`
	Version string       `json:"version"`
	Bytes   int64        `json:"bytes"`
}

// Update is the box's firmware, and how its site's update stands.
func (b *Box) Update(ctx context.Context) (*api.Update, error) {
	u := new(api.Update)
	return u, b.get(ctx, "/api/v1/update", u)
}

// uploadAnswerMax is how long a box may take to begin its answer when all of a bundle was sent: its last part is on the way, and goes to a disk
// that may be slow and must have it for good.
const uploadAnswerMax = 5 * time.Minute

// Upload gives the box a bundle of that many bytes. The box verifies it while it comes, and answers early when it does not want it.
func (b *Box) Upload(ctx context.Context, bundle io.Reader, bytes int64, older bool) (*Taken, error) {
	path := b.base + "/api/v1/update/upload"
	if older {
		path += "?older=true"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, path, bundle)
	if err != nil {
		return nil, fmt.Errorf("remote: %w: %w", ErrAddress, err)
	}
	req.ContentLength = bytes
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Expect", "100-continue") // who may not, and a box that takes none, say so before anything is sent
	patient := b.waiting(uploadAnswerMax)
	defer patient.Close()
	body, err := patient.do(ctx, req)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	t := new(Taken)
	if err := json.NewDecoder(io.LimitReader(body, answerBytesMax)).Decode(t); err != nil {
		return nil, fmt.Errorf("remote: %w: %s: %w", ErrAnswer, b.address, err)
	}
	return t, nil
}

// Later says what an act waits for; empty: it is done.
type Later struct {
	Waits string `json:"waits"`
}
