"Taichi-HD: tables of joints from any pandas and from no pandas, and from people who mean harm"
import base64
import io
import os
import pickle
import shutil
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from layerbench.data.layouts.taichi import EVAL, JOINTS, MASKS, SET, TABLES, TableUnpickler, joints, make, read

pandas = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    where = tmp_path_factory.mktemp("taichi")
    make(where, n=8)
    return where


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_frames_are_for_training_and_their_videos_stay_together(root):
    found = read(root)
    train = found.only("train").entries
    assert [e.path for e in train] == [f"train/video{v:03d}/{f:07d}.png" for v in range(2) for f in range(4)]
    assert [e.group for e in train] == ["video000"] * 4 + ["video001"] * 4 and all(e.mask is e.parts is None for e in train)
    assert (found.fit, found.smooth, found.mask_rule, found.parts) == ("stretch", "bilinear", "white", JOINTS) and len(JOINTS) == 18
    assert [(e.path, e.mask) for e in found.only("test").entries] == [(f"{EVAL}/test/test{i:03d}.png", f"{MASKS}/test{i:03d}.png") for i in range(4)]


def test_joints_are_what_the_table_says_and_lie_on_the_puppet(root):
    found, table = read(root, landmarks=True), pandas.read_pickle(root / TABLES / "taichi_test_gt.pkl")
    assert found.counts() == {"pictures": 8, "train": 4, "test": 4, "mask": 4, "parts": 8}
    for e, name, value in zip(found.only("test").entries, table.file_name, table.value):
        assert e.path.endswith(name)
        for (x, y, seen), (tx, ty) in zip(e.parts, value): assert (x, y, seen) == ((tx, ty, True) if tx >= 0 else (0., 0., False))
        mask = np.asarray(Image.open(root / e.mask))
        assert all(mask[int(y), int(x)] == 255 for x, y, seen in e.parts if seen) and set(np.unique(mask)) == {0, 255}
    assert 0 < sum(seen for e in found.entries for *_, seen in e.parts) < 8 * 18


OTHERS = {   # two rows, a.png: 0 to 35, b.png: all -1; as written by these versions
    '1.5 to 2.2':
        'c-rlhZEF)j5XW<8PFoRceT*nlL^KvTe70(A(kg-;M(F#p>|HjwqkEg<cF!8HP+zpRu<yEl9=}q*fzECwn3nntT*&@rFEjs}9d2g3{&O*?xuxd|Dtc6g$*^Q$zoa=cdiEVv^u4nW%>D0X%QSVJ<b%@a'
        'Ths2DP^=V`%P^;c4p=FTKDWw;$;PMg8N&5dj37LV<=+sa=SU@rEZN|U#5Tq{UlCPajK=DD#Z^Yjl8!)?lq?wvsmdx*)-iC7MxOy~=W<}8+Kzea#pZ`uGtJ10{K(%m>6{LFYE;;pX#ew)+20%ge@c7b'
        'Ot;(p_#2knqP8;e{yN+>pkW~f@RHauJ)h27@$}L}`l6F=Xup3%uystZW(8LlyxOsK*hZr>#tiZT@-ni4yop>u-bUU*-bFT%i^vDa5cv@K2>BTK1o;&C4EY@S0=a~IiF}28jcg&`AeWJCWM|B6WNih{'
        'D;)!s`d69nO_%WS*MFW&TS5juJrh?MbdG=)3nb4H=6VC#!LxOZe7o-$`<*wAHgk`CWipJZgb{F-2)0Q+*k=%)wsbJD-7x6EfH<Kqd^p^2Ei~KDps$4+C&3rWD`s4Bb@!-S?LtJltgoMxK}p5Hrm$u?'
        '_1ZM*!i^Ly72HSHr5YA+9cwT!Jg3R*2Ez(k9_E-$b28IN&J=ZduR}^yDVSDUMxQ2qP6y7sMmZmDO46$eC>vFba2hihReQ3E!$0|Ycc%',
    'by hand, as 0.25':
        'c-rlkTTj$L6vt<mi!k00P!UlP5Q{MltEi|bmlzXmT$4Wag-oX1VY{(AyQiJ1B%0s@Am7GsV1ge^XQpR0YvPNS5R>gge`k7T=A8addS-X09JRTu@yv}{sc^Sa-W2o+SNy597CyXpf&oGZtLbMzx+XWI'
        '5~<`#<~F(Hb&+OtBWXpiUKAs}*x7V`T2T{kMdpS)6O>8uhCMS+=&vUgew{?WP6Bg~d9%G;%x&h0YVb7W+mxjuYROEcd8BA(7S-EYFO)p83+0GKt(u53Dx@(e^aUloaR~jvpk~5VLsnp54+ecWwhu!-'
        '3_D)QEAIlu4Qpz<t=An7%6k6GWjJy0aUV|laLVzDz23p;YPI_OtG?{bTU9U;9&ExHCm7cLtwti4)Z)UZRrWPcasgvP!FXuj()vg>-}8T8yOhhipuV|xDTsU9z?tHy0^$+t$yBSY2W1=xGbrgCgf8I`'
        '2=0~l{*L74O}X2ab(A}__E=0}o8Wk?qn`EQoQXPWqMnb7KwHZ&VFF$7VX_lw1uk|6A_}I$gSao4HSVtK%coVe)(Q+EN08&l3FH)V8aacUL(U@|<PGFaq>EfcR*<)lw~<T8JIK4pd&p(vedGh=L*xqb'
        '5%Mu|6}eXMa0d;t-g&UT2A5)8>&re|Q7|2Lig48wVaA8q??sr4CylCc>4%z!pL^E7wBVX4&AboS6*!@8M+>3oweLS^-$K8)No&!qEV&gRC<E8(0O?8l-=B<Dn9%&<vGv4i+pM#rDMs(q?46puQ}c*V'
        '&0t9Tn)Q_F&S3fgV`1LV-@jyxW=SIw)YIL>EA9Ka$a7V+Hm1K;Ahr#fUT*(~;g~gr;zfhs%tQAZwP3Vr',
    'by hand, as 0.23':
        'c-rlkTTj$L6vwB_MX0ysq9URqAQod9RuNHAE-@zBxF&t-3z<y218wYf_q0=$L=$`f<lFcSOz?y0%=91;@x@Elht9+P&UU7AX8v>LoZYQT&}K=4Wp>a?xxJpUCO4lj!JcYs=EHl->mh{DhI|I(hrv-I'
        'c$%;{GgsqQ@ahFi*alDKJJy<YWMG58<(ciXjGHv!Z|F1i#QgQ3qF?&%mcG$-k~iC%#n@&Zi-@Hu+cas)gI1D>G!KM%Fv^tE>RvD$vJI7h2CW7UGLt9DFrmvc<itL7d%cn|6H!uwo*n3Q;lwWVxzKMp'
        'hEv%F6DMql&9;2+q*sySUoOC@y^p(a+J!TgQ_S@a&erSo=U-*hAI_41s=v1e1D4k>``4qG(?n_tgIdtnEY3L$aRI}=-lgs%^?b+ueeL90c^U;$J~2P{e`^>Wqv7IF4T;t;?DDGQuo*}g2&K0{7lw|}'
        'kjoJ4z-FDw&ff_c6(Y=TCmR?pzP5)#66ysGhtlgg7tSlMgUaiLuyC}#03*uLMHfa7b-nbHu47u)NrN0|Up_6NwOpVNSw#*bN04L4apVMY3OS9mkT;RHkT!A_Swr4N-a*bG?;_`s_mB(7`^X2#hsZ_b'
        'BjjV`5^}lV{uUZ!<>0}}GF(=ncEyFO0>=G=L%606VZw#U?}soIjw)3{<5120&!zP*Ex4|ZX4-`t0xVyq(;1(a<>ybz510E^%bK-ob9M~~%D|*LKuT%L%HHA1t{3I2Uz|D~F<Q0iS!aYOtA1Ja%c|eu'
        's_*s5zUD?sWoA%$fKoq?<o!=5HM2MhxakmiRgGOY=XoxQv_j==1)|fq%A@-4FMg*@E?ALV*K*(f2Bfwp`2',
}


@pytest.mark.parametrize("version", OTHERS)
def test_tables_of_other_pandas(tmp_path, version):
    (tmp_path / "t.pkl").write_bytes(zlib.decompress(base64.b85decode(OTHERS[version])))
    known = joints(tmp_path / "t")
    assert [p for x, y, _ in known["a.png"] for p in (x, y)] == list(range(36)) and not any(seen for *_, seen in known["b.png"])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tables_of_every_protocol_and_rows_as_lists(tmp_path, protocol):
    value = np.arange(36.).reshape(18, 2)
    with open(tmp_path / "t.pkl", "wb") as f: pickle.dump(pandas.DataFrame({"file_name": ["a.png"], "value": [value.tolist()]}, index=[7]), f, protocol)
    assert joints(tmp_path / "t")["a.png"][3] == (6, 7, True)


class Calls:
    def __init__(self, what, *arguments): self.call = what, arguments
    def __reduce__(self): return self.call


def dotted(path):
    "A pickle that reaches into a class that is allowed"
    return b"\x80\x04\x8c\x06pandas\x8c" + bytes([len(path)]) + path.encode() + b"\x93\x8c\x011\x85R."


@pytest.mark.parametrize("harm", [pickle.dumps(Calls(os.system, "touch owned")), pickle.dumps(Calls(eval, "open('owned', 'w')")), pickle.dumps(Calls(exec, "open('owned', 'w')")),
                                  pickle.dumps([np.zeros(3), Calls(open, "owned", "w")]), pickle.dumps(Calls(pandas.read_pickle, "owned")), pickle.dumps(Calls(np.save, "owned", 1)),
                                  dotted("DataFrame.to_pickle"), dotted("io.common.os.system"), pickle.dumps(Calls(getattr, pandas.DataFrame, "eval")), pickle.dumps(Calls(__import__, "this")),
                                  b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R."])
def test_a_malicious_table_is_refused_and_nothing_runs(root, harm, monkeypatch):
    monkeypatch.chdir(root)
    sys.modules.pop("this", None)
    (root / TABLES / "taichi_test_gt.pkl").write_bytes(harm)
    before = sorted(os.listdir(root))
    with pytest.raises(ValueError, match="is not opened: it asks for"): read(root)
    assert sorted(os.listdir(root)) == before and "this" not in sys.modules


def test_harm_is_done_without_the_guard(root, monkeypatch):
    monkeypatch.chdir(root)
    pickle.load(io.BytesIO(pickle.dumps(Calls(exec, "open('owned', 'w').close()"))))   # so the test above would notice
    assert "owned" in os.listdir(root)


def test_a_csv_takes_the_place_of_a_pickle(root, monkeypatch):
    before = read(root, landmarks=True).entries
    make(root, n=8, table="csv")
    for split in ("train", "test"): (root / TABLES / f"taichi_{split}_gt.pkl").write_bytes(b"never opened")
    text = (root / TABLES / "taichi_test_gt.csv").read_text()
    (root / TABLES / "taichi_test_gt.csv").write_text("file," + ",".join(f"{c}{i}" for i in range(18) for c in "xy") + "\n" + text)
    assert np.allclose([e.parts for e in read(root, landmarks=True).entries], [e.parts for e in before], atol=1e-5)
    (root / TABLES / "taichi_test_gt.csv").write_text(text + "z.png,1,2\n")
    with pytest.raises(ValueError, match="taichi_test_gt.csv, line 5 is 'z.png,1,2'; expected a file and 36 numbers"): read(root)


def test_without_pandas_one_sentence_says_what_to_do(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ValueError, match="pandas is not installed; pip install pandas, or put a table .* ending .csv"): read(root)


@pytest.mark.parametrize("table, said", [({"file_name": ["../a.png"], "value": [np.zeros((18, 2))]}, "expected a name without folders"), ({"file_name": ["a.png"], "value": [np.zeros((17, 2))]}, "expected 18 points"),
                                         ({"file": ["a.png"], "value": [np.zeros((18, 2))]}, "columns file_name and value"), ({"file_name": ["a.png"] * 2, "value": [np.zeros((18, 2))] * 2}, "two rows for a.png")])
def test_tables_of_another_form_are_refused(root, table, said):
    pandas.DataFrame(table).to_pickle(root / TABLES / "taichi_test_gt.pkl")
    with pytest.raises(ValueError, match=said): read(root)
    (root / TABLES / "taichi_test_gt.pkl").write_bytes((root / TABLES / "taichi_train_gt.pkl").read_bytes()[:300])
    with pytest.raises(ValueError, match="is not opened"): read(root)


def test_what_is_missing_is_named_or_counted(root):
    (root / EVAL / "test" / "test001.png").unlink()
    (root / MASKS / "test002.png").unlink()
    (root / EVAL / "test" / "more.png").write_bytes(b"")
    (root / "train" / "a.mp4").write_bytes(b"")
    found = read(root)
    assert found.left_out == {"train/a.mp4": "is a film; unpack it into a folder of frames of the same name", f"{EVAL}/test/test001.png": "is listed and is not there"}
    assert any("more.png" in n for n in found.notes) and any("1 test picture without a mask" in n for n in found.notes)
    for split in ("test", "train"): (root / TABLES / f"taichi_{split}_gt.pkl").unlink()
    assert read(root).counts()["train"] == 8 and "no test pictures" in read(root).notes[0]
    with pytest.raises(FileNotFoundError, match="has no landmark/taichi_train_gt.pkl"): read(root, landmarks=True)
    (root / "train").rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match="has no train"): read(root)
    assert SET.sniff(root) and not SET.sniff(root / "elsewhere")


def test_the_table_unpickler_gives_back_a_table(root):
    with open(root / TABLES / "taichi_test_gt.pkl", "rb") as f: ours = TableUnpickler(f).load()
    theirs = pandas.read_pickle(root / TABLES / "taichi_test_gt.pkl")
    assert ours.file_name.tolist() == theirs.file_name.tolist() and np.array_equal(np.stack(ours.value.tolist()), np.stack(theirs.value.tolist()))
