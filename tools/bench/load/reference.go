package load

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// Reference does pieces of fixed work for a time and says how many a second: what a block of small writes costs a box (a sync
// of 4 KiB, 20 round trips of 256 bytes over loopback TCP, 2 signatures and 4 checks of them), without any of the product's
// code. It says how fast the machine is now: figures of two runs are compared for the same speed.
func Reference(ctx context.Context, dir string, d time.Duration) (perSecond float64, err error) {
	f, err := os.CreateTemp(dir, "reference-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	block := make([]byte, 4096)
	const blocks = 256
	if _, err := f.Write(make([]byte, blocks*len(block))); err != nil {
		return 0, err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, err
	}
	defer l.Close()
	go func() { // echoes until the connection ends
		if c, err := l.Accept(); err == nil {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, err
	}
	message := make([]byte, 256)
	n, began := 0, time.Now()
	for ; time.Since(began) < d && ctx.Err() == nil; n++ {
		if _, err := f.WriteAt(block, int64(n%blocks)*int64(len(block))); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		for range 20 {
			if _, err := c.Write(message); err != nil {
				return 0, err
			}
			if _, err := io.ReadFull(c, message); err != nil {
				return 0, err
			}
		}
		digest := sha256.Sum256(block)
		for range 2 {
			sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
			if err != nil {
				return 0, err
			}
			for range 2 {
				if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig) {
					return 0, errors.New("a signature does not hold")
				}
			}
		}
	}
	return float64(n) / time.Since(began).Seconds(), ctx.Err()
}
