package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/tools/bench/load"
	smart "github.com/hyperledger-labs/SmartBFT/pkg/api"
	"github.com/hyperledger-labs/SmartBFT/pkg/consensus"
	"github.com/hyperledger-labs/SmartBFT/pkg/metrics/disabled"
	bft "github.com/hyperledger-labs/SmartBFT/pkg/types"
	"github.com/hyperledger-labs/SmartBFT/pkg/wal"
	"github.com/hyperledger-labs/SmartBFT/smartbftprotos"
)

// SmartBFT is a library without a network. Here its four replicas are in one process and hand messages to each other as pointers: no
// TLS, no copies between processes, so it is measured at its best. Each replica signs with ECDSA P-256 as ours do, has its own log
// (the library's, synced) and its own file of blocks, which Deliver makes durable. Clients' requests come over TCP.

const (
	smartReplicas = 4
	// requestMax bounds a request: 100 messages of 100 bytes with their keys are below 16 KiB.
	requestMax = 1 << 20
	inboxes    = 4096
)

type quiet struct{}

func (quiet) Debugf(string, ...any) {}
func (quiet) Infof(string, ...any)  {}
func (quiet) Warnf(string, ...any)  {}
func (quiet) Errorf(format string, a ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", a...)
}
func (quiet) Panicf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }

// smartCluster is the replicas, and who waits for which request.
type smartCluster struct {
	nodes [smartReplicas + 1]*smartReplica // by id, from 1
	mu    sync.Mutex
	waits map[string]*smartWait
}

type smartWait struct {
	done chan struct{}
	seen int
}

type envelope struct {
	from uint64
	msg  *smartbftprotos.Message
	req  []byte
}

type smartReplica struct {
	id     uint64
	c      *smartCluster
	key    *ecdsa.PrivateKey
	in     chan envelope
	blocks *os.File
	engine *consensus.Consensus
}

// requestID is the first 16 bytes of a request: client and number.
func (r *smartReplica) RequestID(req []byte) bft.RequestInfo {
	return bft.RequestInfo{ClientID: hex.EncodeToString(req[:8]), ID: hex.EncodeToString(req[8:16])}
}

func (r *smartReplica) VerifyRequest(req []byte) (bft.RequestInfo, error) {
	if len(req) < 16 {
		return bft.RequestInfo{}, errors.New("short request")
	}
	return r.RequestID(req), nil
}

func (r *smartReplica) SendConsensus(to uint64, m *smartbftprotos.Message) {
	r.c.nodes[to].in <- envelope{from: r.id, msg: m}
}

func (r *smartReplica) SendTransaction(to uint64, req []byte) {
	r.c.nodes[to].in <- envelope{from: r.id, req: req}
}

func (*smartReplica) Nodes() []uint64 { return []uint64{1, 2, 3, 4} }

func (r *smartReplica) receive() {
	for e := range r.in {
		if e.msg != nil {
			r.engine.HandleMessage(e.from, e.msg)
		} else {
			r.engine.HandleRequest(e.from, e.req)
		}
	}
}

func payload(requests [][]byte) (b []byte) {
	for _, q := range requests {
		b = append(binary.AppendUvarint(b, uint64(len(q))), q...)
	}
	return b
}

func requests(b []byte) (all [][]byte) {
	for len(b) > 0 {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			return all
		}
		all, b = append(all, b[k:k+int(n)]), b[k+int(n):]
	}
	return all
}

func (r *smartReplica) AssembleProposal(metadata []byte, reqs [][]byte) bft.Proposal {
	p := payload(reqs)
	d := sha256.Sum256(p)
	return bft.Proposal{Header: d[:], Payload: p, Metadata: metadata}
}

func (r *smartReplica) VerifyProposal(p bft.Proposal) ([]bft.RequestInfo, error) {
	if d := sha256.Sum256(p.Payload); string(d[:]) != string(p.Header) {
		return nil, errors.New("the header is not that of the payload")
	}
	return r.RequestsFromProposal(p), nil
}

func (r *smartReplica) RequestsFromProposal(p bft.Proposal) (all []bft.RequestInfo) {
	for _, q := range requests(p.Payload) {
		all = append(all, r.RequestID(q))
	}
	return all
}

func (r *smartReplica) sign(b []byte) []byte {
	d := sha256.Sum256(b)
	s, err := ecdsa.SignASN1(rand.Reader, r.key, d[:])
	if err != nil {
		panic(err)
	}
	return s
}

func (r *smartReplica) verify(id uint64, b, sig []byte) error {
	d := sha256.Sum256(b)
	if id == 0 || id > smartReplicas || !ecdsa.VerifyASN1(&r.c.nodes[id].key.PublicKey, d[:], sig) {
		return errors.New("a signature does not hold")
	}
	return nil
}

func (r *smartReplica) Sign(b []byte) []byte { return r.sign(b) }

// SignProposal signs the digest of the proposal with what the library adds.
func (r *smartReplica) SignProposal(p bft.Proposal, aux []byte) *bft.Signature {
	msg := append([]byte(p.Digest()), aux...)
	return &bft.Signature{ID: r.id, Value: r.sign(msg), Msg: aux}
}

func (r *smartReplica) VerifyConsenterSig(s bft.Signature, p bft.Proposal) ([]byte, error) {
	return s.Msg, r.verify(s.ID, append([]byte(p.Digest()), s.Msg...), s.Value)
}

func (r *smartReplica) VerifySignature(s bft.Signature) error { return r.verify(s.ID, s.Msg, s.Value) }
func (*smartReplica) VerificationSequence() uint64            { return 0 }
func (*smartReplica) AuxiliaryData(msg []byte) []byte         { return msg }
func (*smartReplica) MembershipChange() bool                  { return false }
func (*smartReplica) Sync() bft.SyncResponse                  { return bft.SyncResponse{} }

// Deliver makes a block durable and answers its clients when f+1 replicas have.
func (r *smartReplica) Deliver(p bft.Proposal, _ []bft.Signature) bft.Reconfig {
	if _, err := r.blocks.Write(append(p.Header, p.Payload...)); err != nil {
		panic(err)
	}
	if err := syscall.Fdatasync(int(r.blocks.Fd())); err != nil {
		panic(err)
	}
	r.c.mu.Lock()
	for _, q := range requests(p.Payload) {
		if w := r.c.waits[string(q[:16])]; w != nil {
			if w.seen++; w.seen == 2 {
				close(w.done)
				delete(r.c.waits, string(q[:16]))
			}
		}
	}
	r.c.mu.Unlock()
	return bft.Reconfig{}
}

func smartNode(args []string) error {
	if len(args) != 2 {
		return errors.New("node smart PORT DIR")
	}
	c := &smartCluster{waits: map[string]*smartWait{}}
	for id := uint64(1); id <= smartReplicas; id++ {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		dir := filepath.Join(args[1], strconv.Itoa(int(id)))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		blocks, err := os.Create(filepath.Join(dir, "blocks"))
		if err != nil {
			return err
		}
		c.nodes[id] = &smartReplica{id: id, c: c, key: key, in: make(chan envelope, inboxes), blocks: blocks}
	}
	for _, r := range c.nodes[1:] {
		log, err := wal.Create(quiet{}, filepath.Join(args[1], strconv.Itoa(int(r.id)), "wal"), &wal.Options{Metrics: wal.NewMetrics(new(disabled.Provider))})
		if err != nil {
			return err
		}
		cfg := bft.DefaultConfig
		cfg.SelfID, cfg.LeaderRotation, cfg.DecisionsPerLeader = r.id, false, 0
		cfg.RequestBatchMaxInterval, cfg.RequestMaxBytes = time.Millisecond, requestMax
		cfg.RequestPoolSize, cfg.IncomingMessageBufferSize = 4000, inboxes
		ticks, clock := time.NewTicker(100*time.Millisecond), time.NewTicker(100*time.Millisecond)
		r.engine = &consensus.Consensus{
			Config: cfg, ViewChangerTicker: ticks.C, Scheduler: clock.C, Logger: quiet{}, Metrics: smart.NewMetrics(new(disabled.Provider)),
			Comm: r, Signer: r, MembershipNotifier: r, Verifier: r, Application: r, Assembler: r, RequestInspector: r, Synchronizer: r,
			WAL: log, Metadata: &smartbftprotos.ViewMetadata{},
		}
	}
	for _, r := range c.nodes[1:] {
		if err := r.engine.Start(); err != nil {
			return err
		}
		go r.receive()
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+args[0])
	if err != nil {
		return err
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	go func() {
		<-end
		os.Exit(0)
	}()
	for {
		nc, err := l.Accept()
		if err != nil {
			return err
		}
		go c.serve(nc)
	}
}

// serve takes requests from one connection, each behind its length, and answers with a byte when it is delivered. Answers come in
// the order of the requests.
func (c *smartCluster) serve(nc net.Conn) {
	defer nc.Close()
	in := bufio.NewReader(nc)
	var head [4]byte
	for {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(head[:])
		if n < 16 || n > requestMax {
			return
		}
		req := make([]byte, n)
		if _, err := io.ReadFull(in, req); err != nil {
			return
		}
		w := &smartWait{done: make(chan struct{})}
		c.mu.Lock()
		c.waits[string(req[:16])] = w
		c.mu.Unlock()
		leader := c.nodes[c.nodes[1].engine.GetLeaderID()]
		if err := leader.engine.SubmitRequest(req); err != nil {
			fmt.Fprintln(os.Stderr, "submit:", err)
			return
		}
		<-w.done
		if _, err := nc.Write([]byte{1}); err != nil {
			return
		}
	}
}

func startSmart(ctx context.Context, _ *options, dir string) (*load.Target, func(), error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, nil, err
	}
	c := &cluster{dir: dir}
	if err := c.spawn(1, "smart", strconv.Itoa(ports[0]), dir); err != nil {
		return nil, nil, err
	}
	var clients atomic.Uint64
	open := func(_ context.Context, op string, _ int) (load.Client, error) {
		if op != "put" {
			return nil, fmt.Errorf("no operation %q", op)
		}
		return &smartClient{address: local(ports[0]), clients: &clients}, nil
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		one, _ := open(ctx, "put", 0)
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := one.Do(try, [][]byte{[]byte("k")}, [][]byte{[]byte("v")})
		cancel()
		_ = one.Close()
		if err == nil {
			break
		}
		if time.Now().After(end) || ctx.Err() != nil {
			c.stop()
			return nil, nil, fmt.Errorf("%w\n%s", err, c.logs())
		}
	}
	return &load.Target{PIDs: c.pids(), Open: open}, c.stop, nil
}

// smartClient has a connection for each loop that uses it at a time.
type smartClient struct {
	address string
	clients *atomic.Uint64
	mu      sync.Mutex
	free    []*smartConn
}

type smartConn struct {
	nc    net.Conn
	id, n uint64
	buf   []byte
}

func (s *smartClient) Do(ctx context.Context, keys, values [][]byte) (err error) {
	s.mu.Lock()
	var c *smartConn
	if n := len(s.free); n > 0 {
		c, s.free = s.free[n-1], s.free[:n-1]
	}
	s.mu.Unlock()
	if c == nil {
		nc, err := net.Dial("tcp", s.address)
		if err != nil {
			return err
		}
		c = &smartConn{nc: nc, id: s.clients.Add(1)}
	}
	c.n++
	b := append(c.buf[:0], 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, c.id), c.n)
	for i := range keys {
		b = append(append(b, keys[i]...), values[i]...)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	c.buf = b
	if d, ok := ctx.Deadline(); ok {
		_ = c.nc.SetDeadline(d)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.nc.SetDeadline(time.Now()) })
	defer stop()
	if _, err = c.nc.Write(b); err == nil {
		_, err = io.ReadFull(c.nc, b[:1])
	}
	if err != nil {
		_ = c.nc.Close()
		return err
	}
	s.mu.Lock()
	s.free = append(s.free, c)
	s.mu.Unlock()
	return nil
}

func (s *smartClient) Close() error {
	for _, c := range s.free {
		_ = c.nc.Close()
	}
	return nil
}
