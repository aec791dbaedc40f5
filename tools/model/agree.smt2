; Agreement of the rules of coord/bft for any number of boxes, rounds, blocks, terms and levels, by induction on the
; round of c: if b is final, every block notarized in its round or later descends from b. b is any final block, c any
; notarized one, p its parent; the rules, facts about what honest boxes have signed, are stated of these (z3 proves from
; fewer premises than there are). A line that ends in ;NAME is left out to show that the rule is needed.
(declare-sort Box) (declare-sort Quorum) (declare-sort Block)
(declare-fun honest (Box) Bool) (declare-fun in (Box Quorum) Bool)
(declare-const b Block) (declare-const c Block) (declare-const p Block)
(declare-fun rnd (Block) Int)
(declare-fun vote (Box Block) Bool) (declare-fun fin (Box Block) Bool) (declare-fun emp (Box Int) Bool)
(declare-const anc-b-c Bool) (declare-const anc-b-p Bool) ; c descends from b, p does
(declare-const ncert-p Bool)
(declare-const term-b Int) (declare-const first-b Int)    ; the term of b's round, and that term's first round
(assert (<= first-b (rnd b)))
(declare-fun term (Int) Int)
(assert (= (term (rnd b)) term-b))
(declare-const fins Quorum) (declare-const votes Quorum) (declare-const votes-b Quorum) (declare-const empties Quorum)
; two quorums share an honest box (proved of n-f by itself); each has one
(assert (forall ((s Quorum) (t Quorum)) (exists ((i Box)) (and (in i s) (in i t) (honest i))))) ;quorum
(assert (forall ((s Quorum)) (exists ((i Box)) (and (in i s) (honest i)))))
(assert (< (rnd p) (rnd c))) (assert (> (rnd b) 0))
(assert (=> (= b c) anc-b-c)) (assert (=> anc-b-p anc-b-c))
; one block vote a round, by digest
(assert (forall ((i Box)) (=> (and (honest i) (vote i b) (vote i c) (= (rnd b) (rnd c))) (= b c)))) ;once
; the parent's very digest is notarized
(assert (forall ((i Box)) (=> (and (honest i) (vote i c)) ncert-p))) ;parent
; when b's round is in the gap below c, its term has an empty certificate: each of a quorum has a level in that term, none
; above the certificate's, and that is at most the parent's round + 1 or the term's first round
(declare-fun level (Box) Int)
(define-fun gap () Bool (and (< (rnd p) (rnd b)) (< (rnd b) (rnd c)) (exists ((i Box)) (and (honest i) (vote i c)))))
(assert (=> gap (forall ((j Box)) (=> (in j empties) (emp j (level j)))))) ;gap
(assert (=> gap (forall ((j Box)) (=> (in j empties) (= (term (level j)) term-b))))) ;sameterm
(assert (=> gap (forall ((j Box)) (=> (in j empties) (or (<= (level j) (+ (rnd p) 1)) (<= (level j) first-b)))))) ;level
; no finalize vote at or above the own empty level of the term, no empty vote at or below an own finalize vote
(assert (forall ((i Box)) (=> (and (honest i) (fin i b) (emp i (level i)) (= (term (level i)) term-b)) (< (rnd b) (level i))))) ;exclusion
; only what is notarized is voted to be final
(assert (forall ((i Box)) (=> (and (honest i) (fin i b)) (forall ((j Box)) (=> (in j votes-b) (vote j b)))))) ;finalize
; b is final, c notarized; the induction's premise; the negated claim
(assert (forall ((i Box)) (=> (in i fins) (fin i b))))
(assert (forall ((i Box)) (=> (in i votes) (vote i c))))
(assert (>= (rnd c) (rnd b)))
(assert (=> (and ncert-p (>= (rnd p) (rnd b))) anc-b-p))
(assert (not anc-b-c))
(check-sat)
