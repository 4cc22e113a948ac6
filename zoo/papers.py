"""The papers behind the names: citation key to title, authors, venue and year."""

PAPERS = {
    "fan2020pyslowfast": "PySlowFast. Haoqi Fan, Yanghao Li, Bo Xiong, Wan-Yen Lo, Christoph Feichtenhofer. 2020",
    "mmaction2020": "OpenMMLab's Video Understanding Toolbox and Benchmark. MMAction2 contributors. 2020",
    "wang2018nonlocal": "Non-local Neural Networks. Xiaolong Wang, Ross Girshick, Abhinav Gupta, Kaiming He. CVPR 2018",
}
