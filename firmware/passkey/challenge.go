package passkey

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"
)

// Challenges are made and forgotten:
//
//	time, Unix ms 8 | nonce 16 | HMAC-SHA256 32 (key of this process, "holdfast passkey1" | purpose | 0 | bound to | 0 | time | nonce)
//
// so only those that were answered well, by somebody who has a credential, take memory until they are too old.
const (
	nonceBytes     = 16
	challengeBytes = 8 + nonceBytes + sha256.Size
	// challengeFor is how long somebody may take to find the key and press it.
	challengeFor = 2 * time.Minute
	// usedMax bounds the challenges that were answered within that time.
	usedMax = 1024
)

type nonce [nonceBytes]byte

// challenge makes one for a purpose, bound to whom it is made for.
func (p *Party) challenge(purpose, bound string) []byte {
	b := make([]byte, 8+nonceBytes, challengeBytes)
	binary.BigEndian.PutUint64(b, uint64(p.now().UnixMilli()))
	_, _ = rand.Read(b[8:]) // it never fails (crypto/rand)
	return append(b, p.mac(purpose, bound, b)...)
}

func (p *Party) mac(purpose, bound string, head []byte) []byte {
	m := hmac.New(sha256.New, p.key[:])
	m.Write([]byte("holdfast passkey1" + purpose + "\x00" + bound + "\x00"))
	m.Write(head)
	return m.Sum(nil)
}

// answered reads the challenge that a client's data has, and says whether it may be answered yet. Error: ErrRefused.
func (p *Party) answered(purpose, bound string, clientData []byte) (text string, n nonce, err error) {
	var data struct {
		Challenge string `json:"challenge"`
	}
	if err := json.Unmarshal(clientData, &data); err != nil {
		return "", n, fmt.Errorf("%w: client data: %w", ErrRefused, err)
	}
	b, err := base64.RawURLEncoding.DecodeString(data.Challenge)
	if err != nil || len(b) != challengeBytes || !hmac.Equal(b[8+nonceBytes:], p.mac(purpose, bound, b[:8+nonceBytes])) {
		return "", n, fmt.Errorf("%w: it answers another question than this box has asked; open the page again", ErrRefused)
	}
	if age := p.now().Sub(time.UnixMilli(int64(binary.BigEndian.Uint64(b)))); age < 0 || age > challengeFor {
		return "", n, fmt.Errorf("%w: it took longer than %v; try again", ErrRefused, challengeFor)
	}
	return data.Challenge, nonce(b[8:]), nil
}

// use says that a challenge was answered well, which counts once. Errors: ErrRefused, ErrBusy.
func (p *Party) use(n nonce) error {
	now := p.now()
	for k, at := range p.used {
		if now.Sub(at) > challengeFor {
			delete(p.used, k)
		}
	}
	if _, used := p.used[n]; used {
		return fmt.Errorf("%w: this answer was used before", ErrRefused)
	}
	if len(p.used) >= usedMax {
		return ErrBusy
	}
	p.used[n] = now
	return nil
}
